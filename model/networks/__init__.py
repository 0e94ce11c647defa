"""Network architectures, rendering of images, weights, device."""
