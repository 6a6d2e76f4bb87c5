"""Convert checkpoints of Detectron2, torchvision and MMDetection."""
