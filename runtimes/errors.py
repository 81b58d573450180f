"""The two kinds of failure: the user's, told in two lines, and ours, which keeps its traceback."""


class UserError(Exception):
    """Something the user can put right: `message` says what is wrong, `hint` what to do about it.

    The command line prints both, one line each, and exits with 2.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return "{}\n{}".format(self.message, self.hint)
