package dev.attar.cli;

/** What becomes of factors, in forms that llama.cpp runs. */
enum LowRankForm {
  /** Multiplied back into a model as large as before. */
  DENSE,
  /** A LoRA adapter that corrects a quantized base. */
  ADAPTER,
  /** A model with smaller inner dimensions. */
  SHRINK
}
