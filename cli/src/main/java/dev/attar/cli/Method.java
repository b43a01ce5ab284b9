package dev.attar.cli;

/** How tensors are quantized. */
enum Method {
  /** Each value is rounded to its block's grid. */
  RTN,
  /** What rounding does to a layer's outputs is made up for by the columns that come after. */
  GPTQ
}
