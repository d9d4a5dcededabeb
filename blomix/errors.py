"""The one exception for a user's mistake, and what tells that memory was short."""


class InputError(ValueError):
    """Bad input: the message says what was expected, what was found, where, and how to mend it.

    The command line prints the message alone and exits with code 2.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether numpy, JAX or a check of ours found more asked for than there is."""
    from jax.errors import JaxRuntimeError

    exhausted = isinstance(error, JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return exhausted or isinstance(error, MemoryError)
