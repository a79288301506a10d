"""What corruptions of pictures are made of: draws on the device, filters, clouds, and the scene that a batch is."""
