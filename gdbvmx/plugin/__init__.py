"""The `vmx …` commands, for gdb.

`target/` is what the commands ask, `commands/` parse their words and decide what to show, `views/` make text
of it, and `glue/` alone knows gdb. All of it runs in gdb's own Python: 3.9 or later, standard library only.
"""
