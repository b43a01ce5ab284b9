package dev.attar.calibration;

import dev.attar.llama.Node;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Follows the results of multiplications through a graph to where they are added to other activations of the same shape, which is how
 * a layer writes into the residual stream. A bias may come before, and a choice of rows that leaves none out, as llama.cpp has it in
 * the last layer. What is normalized or scaled first is not found.
 */
final class ResidualTracker {

  private final Map<Long, String> followed = new HashMap<>(); // weights by the address of the result, with bias

  /** Begins to follow the result of a multiplication by a weight. */
  void follow(Node product, String weight) {
    followed.put(product.address(), weight);
  }

  /** Looks at the next node of the graph. Gives the weights whose results it adds to other activations; they are not followed on. */
  List<String> added(Node node) {
    List<String> added = new ArrayList<>();
    if (node.op() == Node.Op.GET_ROWS) {
      Node all = node.source(0).orElseThrow();
      if (sameShape(all, node)) {
        passOn(all, node);
      }
    } else if (node.op() == Node.Op.ADD) {
      Node left = node.source(0).orElseThrow();
      Node right = node.source(1).orElseThrow();
      if (right.weight().isPresent()) {
        passOn(left, node);
      } else if (sameShape(left, right)) {
        addIfFollowed(left, added);
        addIfFollowed(right, added);
      }
    }
    return added;
  }

  private void passOn(Node from, Node to) {
    String weight = followed.remove(from.address());
    if (weight != null) {
      followed.put(to.address(), weight);
    }
  }

  private void addIfFollowed(Node node, List<String> added) {
    String weight = followed.remove(node.address());
    if (weight != null) {
      added.add(weight);
    }
  }

  private static boolean sameShape(Node a, Node b) {
    return a.ne(0) == b.ne(0) && a.ne(1) == b.ne(1) && a.ne(2) == b.ne(2) && a.ne(3) == b.ne(3);
  }
}
