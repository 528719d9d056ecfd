"""The server of GDB's remote serial protocol in front of a machine."""

from .server import Server, ServerError, ServerThread

__all__ = ["Server", "ServerError", "ServerThread"]
