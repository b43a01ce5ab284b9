package dev.attar.calibration;

import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;

/** Two observers of one graph, whose computation ends when neither needs more of it. The first hears of a node first. */
final class ObserverPair implements NodeObserver {

  private final NodeObserver first;
  private final NodeObserver second;
  private boolean firstWants;
  private boolean secondWants;
  private boolean firstDone;
  private boolean secondDone;

  ObserverPair(NodeObserver first, NodeObserver second) {
    this.first = first;
    this.second = second;
  }

  @Override
  public boolean wants(Node node) {
    firstWants = first.wants(node);
    secondWants = second.wants(node);
    return firstWants || secondWants;
  }

  @Override
  public boolean computed(Node node) {
    // The node is the one that was asked about last.
    firstDone |= firstWants && !first.computed(node);
    secondDone |= secondWants && !second.computed(node);
    boolean done = firstDone && secondDone;
    if (done) {
      firstDone = false;
      secondDone = false;
    }
    return !done;
  }
}
