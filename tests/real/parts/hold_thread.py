"""Holds one thread of a process still, and no other: a loop that hangs while the process lives.

usage: hold_thread.py THREAD      says `held`, and holds it until it is killed itself or the thread ends
"""

import ctypes
import os
import sys

PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
thread = int(sys.argv[1])
for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
    if libc.ptrace(request, thread, None, None) == -1:
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
# __WALL: a thread that is not its process's first is waited for as well.
ANY_THREAD = 0x40000000
os.waitpid(thread, ANY_THREAD)
print("held", flush=True)
# A signal that comes to it is not passed on. When it is killed, its end must be seen here before its parent sees it.
while os.WIFSTOPPED(os.waitpid(thread, ANY_THREAD)[1]):
    pass
