import sys

from gdbvmx.cli import main

sys.exit(main())
