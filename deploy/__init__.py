"""The camera side: runs a bundle or an engine without PyTorch. Imports nothing heavy by itself."""
