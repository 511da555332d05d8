class OpenvinoLayer:
    """The base of layers on this backend; it adds nothing."""
