"""Exit codes, and what makes them."""

FAILED = 1  # some file, the others are done; or the benchmark got worse
WRONG_USAGE = 2
HUNG_UP = 129  # 128 + SIGHUP
INTERRUPTED = 130  # 128 + SIGINT
CLOSED_PIPE = 141  # 128 + SIGPIPE
TERMINATED = 143  # 128 + SIGTERM

EXIT_CODES = {
    0: "done",
    FAILED: "some file failed or is damaged, the others are done; or `bench --compare` found something worse",
    WRONG_USAGE: "wrong usage: an option or value that cannot be (`--levels 99`)",
    HUNG_UP: "the terminal was closed (SIGHUP); no half-written output is left",
    INTERRUPTED: "interrupted by Ctrl-C; no half-written output is left",
    CLOSED_PIPE: "the reader of standard output went away",
    TERMINATED: "ended by SIGTERM; no half-written output is left",
}


class UsageError(Exception):
    """A command line that asks for what cannot be."""
