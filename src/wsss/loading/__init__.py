"""What training, CAMs and prediction share: devices, and images as batches of tensors."""
