package dev.attar.llama;

/**
 * Watches the operations of a model's graph while a {@link LlamaContext} computes them. It is called by the thread that decodes, one
 * call at a time, once or more for every node: each micro-batch of a batch has a graph of its own. What it throws ends the
 * computation and comes out of {@link LlamaContext#decode}. It must not use the context.
 *
 * <p>Behind the last layer's attention, llama.cpp computes only the tokens whose output is wanted.
 */
public interface NodeObserver {
  /**
   * Asked before a node is computed: its data is not there yet. Only after nodes that are wanted does the computation pause, so that
   * wanting few of them costs little.
   *
   * @return whether {@link #computed} is to be called with it
   */
  boolean wants(Node node);

  /**
   * Called when a wanted node is computed, with its data and that of its sources at hand.
   *
   * @return false to leave out the rest of the micro-batch's graph, as where nothing behind this node is of interest.
   *     {@link LlamaContext#decode} says what that means
   */
  boolean computed(Node node);
}
