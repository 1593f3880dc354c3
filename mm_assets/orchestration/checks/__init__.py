"""The asset checks, a module for each part of the flow: the laws, where people see them."""
