"""Terms of the training losses, each a pure function of tensors."""
