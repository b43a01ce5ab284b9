package dev.attar.prune.structure;

import dev.attar.formats.Model;
import dev.attar.prune.PruneException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.TreeSet;
import java.util.function.ToIntFunction;
import java.util.stream.IntStream;

/**
 * What a model has that can be removed: its layers, and for each layer the neurons of its feed-forward network and the groups of its heads.
 *
 * @param architecture {@code general.architecture}
 * @param layers for each layer what it has
 * @param obstacles what stands in the way of removing it
 */
public record Anatomy(String architecture, List<Part> layers, Obstacles obstacles) {
  public Anatomy {
    layers = List.copyOf(layers);
  }

  /**
   * What a layer has.
   *
   * @param neurons inner width of the feed-forward network; 0 if it has none, or one that cannot be cut
   * @param groups heads of keys and values; 0 if it has none, or heads that cannot be cut
   * @param headsPerGroup heads of queries that use one of them; 0 if there are no groups
   * @param headSize values in a head: group {@code g} has the rows from {@code g * headSize} of {@code attn_k} and {@code attn_v}, and
   *     the rows of {@code attn_q} and columns of {@code attn_output} from {@code g * headsPerGroup * headSize}; 0 if there are no groups
   */
  public record Part(int neurons, int groups, int headsPerGroup, int headSize) {
    /** The rows of {@code attn_q} and columns of {@code attn_output} of some groups, ascending if these are. */
    public int[] queries(int[] groups) {
      return spread(groups, headsPerGroup * headSize);
    }

    /** The rows of {@code attn_k} and {@code attn_v} of some groups, ascending if these are. */
    public int[] keys(int[] groups) {
      return spread(groups, headSize);
    }

    private static int[] spread(int[] groups, int width) {
      return Arrays.stream(groups)
        .flatMap(group -> IntStream.range(group * width, (group + 1) * width))
        .toArray();
    }
  }

  /**
   * Why something cannot be removed: each in one line without the model's name, or {@code null} if it can.
   *
   * @param model what to call the model in messages
   * @param ffn why no neurons
   * @param heads why no heads
   * @param layers why no layers
   * @param nonUniform why layers cannot come to differ
   */
  public record Obstacles(String model, String ffn, String heads, String layers, String nonUniform) {}

  /**
   * Reads it from a model's metadata and tensors.
   *
   * @throws PruneException if they contradict each other
   */
  public static Anatomy of(Model model) throws IOException {
    return new AnatomyReader(model).read();
  }

  /**
   * Checks that something can be removed from the model so that llama.cpp runs what is left.
   *
   * @param nonUniform whether layers may come to differ; means nothing where whole layers are removed
   * @throws PruneException if not; the message says why in one line
   */
  public void require(Structure structure, boolean nonUniform) throws PruneException {
    switch (structure) {
      case FFN -> {
        refuse("neurons", obstacles.ffn());
        requireKind("neurons", nonUniform, Part::neurons);
      }
      case HEADS -> {
        refuse("heads", obstacles.heads());
        if (!nonUniform) {
          refuse("heads", Families.obstacleToOtherWidths(architecture));
        }
        requireKind("groups of heads", nonUniform, Part::groups);
      }
      case LAYERS -> {
        refuse("layers", obstacles.layers());
        if (layers.size() < 2) {
          refuse("layers", "there is only one");
        }
      }
    }
  }

  private void requireKind(String what, boolean nonUniform, ToIntFunction<Part> count) throws PruneException {
    Collection<Integer> counts = new TreeSet<>(layers.stream().mapToInt(count).boxed().toList());
    if (nonUniform) {
      refuse(what + " of some layers alone", obstacles.nonUniform());
    } else if (counts.size() > 1) {
      refuse(
        "the same number of " + what + " of each layer",
        "the layers differ already, they have " + counts + ": say --non-uniform"
      );
    }
  }

  private void refuse(String what, String obstacle) throws PruneException {
    if (obstacle != null) {
      throw new PruneException(obstacles.model() + ": " + what + " cannot be removed: " + obstacle);
    }
  }

  /** Checks that the model can do as the architecture whose layers may differ. */
  void requireConvertible() throws PruneException {
    refuse("parts of some layers alone", obstacles.nonUniform());
    if (Families.rotatesHalves(architecture)) {
      refuse("parts of some layers alone", obstacles.heads());
    }
  }

  /** What a layer of a cut has in the model. */
  Part part(Cut.Layer layer) {
    return layers.get(layer.number());
  }

  /**
   * Checks that a cut is one of this model, and that what it removes can be removed.
   *
   * @throws IllegalArgumentException if it has what the model does not have, or not in ascending order, or nothing
   */
  void check(Cut cut) throws PruneException {
    if (cut.layers().isEmpty()) {
      throw new IllegalArgumentException("a cut without layers leaves nothing");
    }
    requireAscending("layers", cut.numbers(), layers.size());
    for (Cut.Layer layer : cut.layers()) {
      Part part = part(layer);
      requireAscending("neurons of layer " + layer.number(), layer.neurons(), part.neurons);
      requireAscending("groups of layer " + layer.number(), layer.groups(), part.groups);
      if (layer.neurons().length < part.neurons) {
        refuse("neurons", obstacles.ffn());
      }
      if (layer.groups().length < part.groups) {
        refuse("heads", obstacles.heads());
        if (!Families.canBecomeNonUniform(architecture)) {
          refuse("heads", Families.obstacleToOtherWidths(architecture));
        }
      }
    }
    if (cut.layers().size() < layers.size()) {
      refuse("layers", obstacles.layers());
    }
  }

  private static void requireAscending(String what, int[] numbers, int all) {
    for (int i = 0; i < numbers.length; i++) {
      int least = i == 0 ? 0 : numbers[i - 1] + 1;
      if (numbers[i] < least || numbers[i] >= all) {
        throw new IllegalArgumentException(
          what + ": found " + numbers[i] + " at " + i + ", expected " + least + " to " + (all - 1)
        );
      }
    }
  }

  /** The cut that leaves everything. */
  public Cut whole() {
    List<Cut.Layer> all = new ArrayList<>();
    for (int i = 0; i < layers.size(); i++) {
      Part part = layers.get(i);
      all.add(new Cut.Layer(i, Cut.all(part.neurons()), Cut.all(part.groups())));
    }
    return new Cut(all);
  }
}
