"""Transforms that are no function of ours, torchvision's and the user's: run in processes of their own, picture by picture."""
