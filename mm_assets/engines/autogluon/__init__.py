"""The AutoGluon engine: how it is asked, kept quiet, made portable, and guarded."""
