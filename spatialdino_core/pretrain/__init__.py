"""Pretraining: the encoder learns from unlabelled crops by self-distillation (DINO, iBOT, KoLeo)."""
