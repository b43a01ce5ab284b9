package dev.attar.prune.structure;

import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * What is left of a model: some of its layers, in their order, and of each layer some neurons and groups of heads.
 *
 * @param layers those that are left
 */
public record Cut(List<Layer> layers) {
  public Cut {
    layers = List.copyOf(layers);
  }

  /**
   * What is left of a layer.
   *
   * @param number its number in the source, from 0
   * @param neurons the feed-forward neurons that are left, ascending; not copied and must not be changed
   * @param groups the groups of heads that are left, ascending: a group is a head of keys and values with the heads of queries that use
   *     it; not copied and must not be changed
   */
  public record Layer(int number, int[] neurons, int[] groups) {
    /** The same with other neurons. */
    public Layer withNeurons(int[] other) {
      return new Layer(number, other, groups);
    }

    /** The same with other groups of heads. */
    public Layer withGroups(int[] other) {
      return new Layer(number, neurons, other);
    }

    @Override
    public boolean equals(Object other) {
      return (
        other instanceof Layer that &&
        number == that.number &&
        Arrays.equals(neurons, that.neurons) &&
        Arrays.equals(groups, that.groups)
      );
    }

    @Override
    public int hashCode() {
      return 31 * (31 * number + Arrays.hashCode(neurons)) + Arrays.hashCode(groups);
    }

    @Override
    public String toString() {
      return "layer " + number + ": " + neurons.length + " neurons, " + groups.length + " groups";
    }
  }

  /** All numbers below {@code n}: everything is left. */
  public static int[] all(int n) {
    return IntStream.range(0, n).toArray();
  }

  /** The numbers of the layers that are left, in the source. */
  public int[] numbers() {
    return layers.stream().mapToInt(Layer::number).toArray();
  }
}
