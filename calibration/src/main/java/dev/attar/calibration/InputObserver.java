package dev.attar.calibration;

import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;

/** Passes on the activations that enter some linear layers, and ends a graph's computation after the last of them. */
final class InputObserver implements NodeObserver {

  /** Takes the activations of an input, a part of a window at a time. They can be read until this returns. */
  @FunctionalInterface
  interface Sink {
    /**
     * @throws NotFiniteException if a value is not a number
     */
    void accept(LinearInput input, Activations activations) throws NotFiniteException;
  }

  /** A value is not a finite number. The message names its place among the activations. */
  static final class NotFiniteException extends Exception {

    private static final long serialVersionUID = 1;

    NotFiniteException(String place, double found) {
      super(place + ": " + found);
    }
  }

  private final String model;
  private final Sink sink;
  private final Runnable alive;
  private final Map<String, LinearInput> wanted = new HashMap<>();
  private final String last;
  private int window;

  /**
   * @param model for messages
   * @param inputs in the order of the computation
   * @param stops whether the computation may end after the last of them
   * @param alive called often
   */
  InputObserver(String model, Collection<LinearInput> inputs, boolean stops, Sink sink, Runnable alive) {
    this.model = model;
    this.sink = sink;
    this.alive = alive;
    String name = "";
    for (LinearInput input : inputs) {
      wanted.put(input.name(), input);
      name = input.name();
    }
    last = stops ? name : "";
  }

  /** Precedes the computation of a window, for messages counted from 1. */
  void begin(int number) {
    window = number;
  }

  @Override
  public boolean wants(Node node) {
    return InputDiscovery.isLinear(node, true) && wanted.containsKey(InputDiscovery.weightName(node));
  }

  @Override
  public boolean computed(Node node) {
    alive.run();
    String name = InputDiscovery.weightName(node);
    try (Arena arena = Arena.ofConfined()) {
      LinearInput input = wanted.get(name);
      if (Activations.columns(node) != input.columns() || Activations.experts(node) != input.experts()) {
        throw new IllegalStateException(node + ": another shape than before");
      }
      sink.accept(input, Activations.of(node, arena));
    } catch (NotFiniteException e) {
      String what = "what enters " + name + " is not finite in window " + window + ", " + e.getMessage();
      throw new UncheckedIOException(new IOException(model + ": " + what));
    }
    return !name.equals(last);
  }
}
