package dev.attar.calibration;

import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import dev.attar.llama.WeightTensor;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Finds out what enters which linear layers: watches a graph and computes nothing of its own. */
final class InputDiscovery implements NodeObserver {

  private static final String WEIGHT = ".weight";
  private static final Set<String> HEADS = Set.of("output" + WEIGHT, "token_embd" + WEIGHT);

  /** The same values, met by the same tokens' rows. */
  private record Key(long values, long ids, int columns, int experts) {}

  private final boolean output;
  private final Map<Key, List<String>> groups = new LinkedHashMap<>();
  private final Map<String, WeightTensor> weights = new LinkedHashMap<>();
  private final Set<String> seen = new HashSet<>();
  private final ResidualTracker tracker = new ResidualTracker();
  private final Set<String> residual = new HashSet<>();
  private boolean repeats;

  /**
   * @param output whether the output head counts
   */
  InputDiscovery(boolean output) {
    this.output = output;
  }

  @Override
  public boolean wants(Node node) {
    if (isLinear(node, output)) {
      Node weight = node.source(0).orElseThrow();
      String name = weightName(node);
      if (seen.add(name)) {
        Key key = new Key(
          node.source(1).orElseThrow().address(),
          node.op() == Node.Op.MUL_MAT_ID ? node.source(2).orElseThrow().address() : 0,
          Activations.columns(node),
          Activations.experts(node)
        );
        groups.computeIfAbsent(key, _ -> new ArrayList<>()).add(name);
        weight.weight().ifPresent(tensor -> weights.put(name, tensor));
      } else {
        repeats = true;
      }
      tracker.follow(node, name);
    } else {
      residual.addAll(tracker.added(node));
    }
    return false;
  }

  @Override
  public boolean computed(Node node) {
    return true;
  }

  /**
   * Whether a node multiplies activations by a weight.
   *
   * @param output whether the output head is one
   */
  static boolean isLinear(Node node, boolean output) {
    Node.Op op = node.op();
    if ((op != Node.Op.MUL_MAT && op != Node.Op.MUL_MAT_ID) || node.source(1).orElseThrow().type() != Activations.F32) {
      return false;
    }
    String name = weightName(node);
    return name.endsWith(WEIGHT) && (output || !HEADS.contains(name));
  }

  /** The name of the weight of a multiplication. */
  static String weightName(Node product) {
    return product.source(0).orElseThrow().name();
  }

  /** What was found, in the order of the computation. */
  List<LinearInput> inputs() {
    List<LinearInput> inputs = new ArrayList<>();
    groups.forEach((key, names) -> inputs.add(new LinearInput(names.getFirst(), names, key.columns, key.experts)));
    return inputs;
  }

  /** The model's tensors that were met, by their names. */
  Map<String, WeightTensor> weights() {
    return weights;
  }

  /** The weights whose result is added to the residual stream, as {@link ResidualTracker} says. */
  Set<String> residual() {
    return residual;
  }

  /** Whether a weight occurs more than once in the graph. */
  boolean repeats() {
    return repeats;
  }
}
