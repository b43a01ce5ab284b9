package dev.attar.llama;

import java.lang.foreign.MemorySegment;

/**
 * A LoRA adapter: for some of a model's weights W (out, in), matrices A (rank, in) and B (out, rank) with which W acts as
 * W + scale · alpha / rank · B A. It lives as long as its model; {@link LlamaContext#adapters} puts it to use.
 */
public final class LlamaAdapter {

  private final LlamaModel model;
  private final MemorySegment handle;

  LlamaAdapter(LlamaModel model, MemorySegment handle) {
    this.model = model;
    this.handle = handle;
  }

  /** The address, if the adapter was loaded for this model. */
  MemorySegment handle(LlamaModel of) {
    if (model != of) {
      throw new IllegalArgumentException("an adapter of " + model + ", expected one of " + of);
    }
    return handle;
  }
}
