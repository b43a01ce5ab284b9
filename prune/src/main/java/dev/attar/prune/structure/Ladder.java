package dev.attar.prune.structure;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.ToIntFunction;
import java.util.stream.IntStream;

/**
 * How much can be removed of a model: steps from the least to the most.
 *
 * <p>Where layers may come to differ, each keeps at least {@code multiple} neurons or one group, and a multiple of {@code multiple}
 * neurons: what a layer has beyond a multiple goes in every step. Layers that have less than that from the start keep all they have.
 *
 * @param structure what is removed
 * @param nonUniform whether layers may come to differ
 * @param multiple what widths of feed-forward networks stay multiples of
 * @param steps from the least to the most; none is empty-handed, and none leaves nothing
 */
public record Ladder(Structure structure, boolean nonUniform, int multiple, List<Step> steps) {
  public Ladder {
    steps = List.copyOf(steps);
  }

  /**
   * How much is removed.
   *
   * @param units how many neurons (of each layer), groups (of each layer) or layers; of all layers together if they may come to differ
   * @param ratio the part of all neurons, groups or layers that this is, above 0 and below 1
   */
  public record Step(int units, double ratio) {}

  /**
   * The steps of a model, which {@link Anatomy#require} has found to be one that this can be removed from.
   *
   * @param nonUniform whether layers may come to differ
   * @param multiple what widths of feed-forward networks stay multiples of, at least 1
   * @return steps, none if too little is there
   */
  public static Ladder of(Anatomy anatomy, Structure structure, boolean nonUniform, int multiple) {
    if (multiple < 1) {
      throw new IllegalArgumentException("multiple " + multiple + ", expected at least 1");
    }
    int[] counts = counts(anatomy, structure);
    int grain = structure == Structure.FFN ? multiple : 1;
    int total = Math.toIntExact(Arrays.stream(counts).asLongStream().sum());
    List<Step> steps = new ArrayList<>();
    if (structure == Structure.LAYERS) {
      for (int n = 1; n < counts.length; n++) {
        steps.add(new Step(n, (double) n / counts.length));
      }
    } else if (nonUniform) {
      int most = Arrays.stream(counts)
        .map(count -> Math.max(0, count - grain))
        .sum();
      int excess = Arrays.stream(counts)
        .filter(count -> count > grain)
        .map(count -> count % grain)
        .sum();
      for (int n = excess == 0 ? grain : excess; n <= most; n += grain) {
        steps.add(new Step(n, (double) n / total));
      }
    } else {
      // What is left of each layer, from the largest multiple below all.
      int all = counts[0];
      for (int left = ((all - 1) / grain) * grain; left > 0; left -= grain) {
        steps.add(new Step(all - left, (double) (all - left) / all));
      }
    }
    return new Ladder(structure, structure != Structure.LAYERS && nonUniform, multiple, steps);
  }

  /** What each layer has: neurons or groups, or itself. */
  private static int[] counts(Anatomy anatomy, Structure structure) {
    ToIntFunction<Anatomy.Part> count = switch (structure) {
      case FFN -> Anatomy.Part::neurons;
      case HEADS -> Anatomy.Part::groups;
      case LAYERS -> _ -> 1;
    };
    return anatomy.layers().stream().mapToInt(count).toArray();
  }

  /**
   * The step that is nearest to a ratio; of two, the one that removes less.
   *
   * @throws IllegalArgumentException if it would leave nothing, or rounds to removing nothing; the message says what can be removed
   */
  public Step nearest(double ratio) {
    if (!(ratio > 0 && ratio < 1)) {
      throw new IllegalArgumentException("ratio " + ratio + ", expected above 0 and below 1");
    }
    if (steps.isEmpty()) {
      throw new IllegalArgumentException(
        "no " +
          what() +
          " can be removed: " +
          (structure == Structure.FFN
            ? "layers keep a multiple of " + multiple + " neurons and have no more"
            : "something must be left")
      );
    }
    Step best = steps.getFirst();
    for (Step step : steps) {
      if (Math.abs(step.ratio - ratio) < Math.abs(best.ratio - ratio)) {
        best = step;
      }
    }
    if (ratio < best.ratio - ratio) {
      throw new IllegalArgumentException("ratio " + ratio + " removes no " + what() + ": " + range());
    }
    if (1 - ratio < ratio - best.ratio) {
      throw new IllegalArgumentException("ratio " + ratio + " leaves no " + what() + ": " + range());
    }
    return best;
  }

  private String what() {
    return switch (structure) {
      case FFN -> "neurons";
      case HEADS -> "groups of heads";
      case LAYERS -> "layers";
    };
  }

  /** The least and the most that can be removed. */
  private String range() {
    return "the least that can be removed is " + part(steps.getFirst()) + ", the most " + part(steps.getLast());
  }

  private String part(Step step) {
    String of = structure == Structure.LAYERS || nonUniform ? "" : " of each layer";
    return String.format(Locale.ROOT, "%.4g (%d %s%s)", step.ratio, step.units, what(), of);
  }

  /**
   * A cut of the size of a step, whatever is in it: for what sizes say before it is known what is removed. The first of everything is
   * left, and where layers may come to differ they differ as little as they can.
   */
  public Cut example(Anatomy anatomy, Step step) {
    Cut whole = anatomy.whole();
    if (structure == Structure.LAYERS) {
      return new Cut(whole.layers().subList(0, whole.layers().size() - step.units));
    }
    int[] left = left(counts(anatomy, structure), step.units);
    return new Cut(
      IntStream.range(0, left.length)
        .mapToObj(i -> {
          Cut.Layer layer = whole.layers().get(i);
          int[] first = Cut.all(left[i]);
          return structure == Structure.FFN ? layer.withNeurons(first) : layer.withGroups(first);
        })
        .toList()
    );
  }

  /** How many are left of each layer. */
  private int[] left(int[] counts, int units) {
    if (!nonUniform) {
      return Arrays.stream(counts)
        .map(count -> count - units)
        .toArray();
    }
    int grain = structure == Structure.FFN ? multiple : 1;
    int[] left = Arrays.stream(counts)
      .map(count -> count > grain ? count - (count % grain) : count)
      .toArray();
    int more = units - (Arrays.stream(counts).sum() - Arrays.stream(left).sum());
    for (; more > 0; more -= grain) {
      int largest = 0;
      for (int i = 1; i < left.length; i++) {
        if (left[i] >= left[largest]) {
          // the last of those that are equal
          largest = i;
        }
      }
      left[largest] -= grain;
    }
    return left;
  }
}
