package dev.attar.calibration;

import dev.attar.calibration.InputObserver.NotFiniteException;
import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.util.List;
import java.util.Set;

/**
 * Passes on what some linear layers give: the residual stream after a layer's result was added to it, else the result itself, before
 * any bias. Ends a graph's computation after the last of them.
 */
final class OutputObserver implements NodeObserver {

  /** Takes the values that a weight gives, a part of a window at a time. They can be read until this returns. */
  @FunctionalInterface
  interface Sink {
    /**
     * @throws NotFiniteException if a value is not a number
     */
    void accept(String weight, Activations values) throws NotFiniteException;
  }

  private final String model;
  private final Set<String> weights;
  private final Set<String> residual;
  private final boolean stops;
  private final Sink sink;
  private final Runnable alive;
  private final ResidualTracker tracker = new ResidualTracker();
  private List<String> given = List.of(); // the weights whose values the node asked about last has
  private int found; // in this graph
  private int window;

  /**
   * @param model for messages
   * @param weights whose values are wanted
   * @param residual weights whose results are added to the residual stream
   * @param stops whether the computation may end after the last of them
   * @param alive called often
   */
  OutputObserver(String model, Set<String> weights, Set<String> residual, boolean stops, Sink sink, Runnable alive) {
    this.model = model;
    this.weights = Set.copyOf(weights);
    this.residual = residual;
    this.stops = stops;
    this.sink = sink;
    this.alive = alive;
  }

  /** Precedes the computation of a window, for messages counted from 1. */
  void begin(int number) {
    window = number;
  }

  @Override
  public boolean wants(Node node) {
    given = given(node);
    return !given.isEmpty();
  }

  private List<String> given(Node node) {
    if (!InputDiscovery.isLinear(node, true)) {
      return tracker.added(node);
    }
    String weight = InputDiscovery.weightName(node);
    if (!weights.contains(weight)) {
      return List.of();
    }
    if (residual.contains(weight)) {
      tracker.follow(node, weight);
      return List.of();
    }
    return List.of(weight);
  }

  @Override
  public boolean computed(Node node) {
    alive.run();
    for (String weight : given) {
      try (Arena arena = Arena.ofConfined()) {
        sink.accept(weight, Activations.ofResult(node, arena));
      } catch (NotFiniteException e) {
        String what = "what " + weight + " gives is not finite in window " + window + ", " + e.getMessage();
        throw new UncheckedIOException(new IOException(model + ": " + what));
      }
    }
    found += given.size();
    if (!stops || found < weights.size()) {
      return true;
    }
    found = 0;
    return false;
  }
}
