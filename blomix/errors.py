"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Bad input: the message says what was expected, what was found, where, and how to mend it.

    The command line prints the message alone and exits with code 2.
    """
