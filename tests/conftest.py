"""What all tests need of the process they run in."""

import signal

# Started in the background of a script, or by nohup, this process ignores them, and what it starts would inherit that:
# but Ctrl-C and a closed terminal are among the things we test. A handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
