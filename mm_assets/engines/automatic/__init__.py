"""The automatic engine: an ensemble whose members earn their weight on records unseen by them."""
