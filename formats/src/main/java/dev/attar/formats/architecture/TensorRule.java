package dev.attar.formats.architecture;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A tensor of a family, or one per layer, or one per layer and expert: its name in the checkpoint and in GGUF, its shape, and what
 * happens to its rows on the way. A rule can be read in both directions.
 *
 * @param stored name in the checkpoint, with {@code {layer}} and {@code {expert}} where numbers stand
 * @param gguf name in GGUF, with {@code {layer}}
 * @param shape dimensions as in PyTorch, outermost first
 * @param rows how rows are arranged in GGUF
 * @param required whether the checkpoint must have it
 */
record TensorRule(String stored, String gguf, List<Dimension> shape, Rows rows, Predicate<HyperParameters> required) {
  static final String LAYER = "{layer}";
  static final String EXPERT = "{expert}";

  private static final Pattern LAYER_NUMBER = Pattern.compile("(?<=\\.layers\\.)(0|[1-9][0-9]{0,8})(?=\\.)");
  private static final Pattern EXPERT_NUMBER = Pattern.compile("(?<=\\.experts\\.)(0|[1-9][0-9]{0,8})(?=\\.)");

  /**
   * What a tensor of a checkpoint is.
   *
   * @param rule its rule
   * @param layer its layer; 0 if it is in none
   * @param expert its expert; 0 if it is of none
   */
  record Place(TensorRule rule, int layer, int expert) {}

  /** A size that shapes are made of. */
  enum Dimension {
    VOCABULARY,
    EMBEDDING,
    FEED_FORWARD,
    QUERY,
    KEY_VALUE,
    HEAD,
    EXPERTS;

    private long size(HyperParameters h) {
      return switch (this) {
        case VOCABULARY -> h.vocabulary();
        case EMBEDDING -> h.embedding();
        case FEED_FORWARD -> h.feedForward();
        case QUERY -> (long) h.heads() * h.headSize();
        case KEY_VALUE -> (long) h.keyValueHeads() * h.headSize();
        case HEAD -> h.headSize();
        case EXPERTS -> h.experts();
      };
    }
  }

  /** How rows are arranged in GGUF. */
  enum Rows {
    /** As they are. */
    SAME,
    /**
     * Rotary halves interleaved: within each head of {@code n} rows, GGUF's row {@code 2 i + j} is the checkpoint's row {@code j n/2
     * + i}, since llama.cpp rotates neighbours where transformers rotates halves.
     */
    INTERLEAVED,
    /** One expert after the other, in a third dimension. */
    STACKED
  }

  /**
   * What a tensor of a checkpoint is, by its name; empty if it is none of the rules.
   *
   * @param rules rules by the names that they have for checkpoints
   */
  static Optional<Place> place(Map<String, TensorRule> rules, String name) {
    String pattern = LAYER_NUMBER.matcher(name).replaceFirst(LAYER);
    TensorRule rule = rules.get(EXPERT_NUMBER.matcher(pattern).replaceFirst(EXPERT));
    return rule == null
      ? Optional.empty()
      : Optional.of(new Place(rule, number(LAYER_NUMBER, name), number(EXPERT_NUMBER, name)));
  }

  private static int number(Pattern pattern, String name) {
    Matcher match = pattern.matcher(name);
    return match.find() ? Integer.parseInt(match.group()) : 0;
  }

  /** A rule for a tensor that must be there. */
  static TensorRule tensor(String stored, String gguf, Dimension... shape) {
    return new TensorRule(stored, gguf, List.of(shape), Rows.SAME, _ -> true);
  }

  /** A rule for a tensor of each layer, given by the parts of the names behind the layer's number. */
  static TensorRule perLayer(String stored, String gguf, Dimension... shape) {
    return tensor("model.layers." + LAYER + "." + stored, "blk." + LAYER + "." + gguf, shape);
  }

  /** The same with rotary halves interleaved. */
  TensorRule interleaved() {
    return new TensorRule(stored, gguf, shape, Rows.INTERLEAVED, required);
  }

  /** The same with experts stacked. */
  TensorRule stacked() {
    return new TensorRule(stored, gguf, shape, Rows.STACKED, required);
  }

  /** The same for a tensor that may be there, and must be if the condition holds. */
  TensorRule requiredIf(Predicate<HyperParameters> condition) {
    return new TensorRule(stored, gguf, shape, rows, condition);
  }

  /** Whether there is one per layer. */
  boolean isPerLayer() {
    return stored.contains(LAYER);
  }

  /** Name in the checkpoint. */
  String storedName(int layer, int expert) {
    return stored.replace(LAYER, Integer.toString(layer)).replace(EXPERT, Integer.toString(expert));
  }

  /** Name in GGUF. */
  String ggufName(int layer) {
    return gguf.replace(LAYER, Integer.toString(layer));
  }

  /** Shape in the checkpoint, in PyTorch's order. */
  long[] storedShape(HyperParameters h) {
    return shape
      .stream()
      .mapToLong(dimension -> dimension.size(h))
      .toArray();
  }

  /** Shape in GGUF: row length first, experts last. */
  long[] ggufShape(HyperParameters h) {
    long[] stored = storedShape(h);
    boolean stacked = rows == Rows.STACKED;
    long[] gguf = new long[stored.length + (stacked ? 1 : 0)];
    for (int i = 0; i < stored.length; i++) {
      gguf[i] = stored[stored.length - 1 - i];
    }
    if (stacked) {
      gguf[stored.length] = h.experts();
    }
    return gguf;
  }

  /** Experts that are stacked into one tensor of GGUF, 1 if none are. */
  int parts(HyperParameters h) {
    return rows == Rows.STACKED ? h.experts() : 1;
  }

  /** Heads that the rows belong to, for {@link Rows#INTERLEAVED}. */
  int heads(HyperParameters h) {
    return isOfQueries() ? h.heads() : h.keyValueHeads();
  }

  /** Whether its rows are those of queries. */
  boolean isOfQueries() {
    return shape.getFirst() == Dimension.QUERY;
  }

  /** Whether GGUF holds it in single precision whatever the file's type: vectors, norms and routers. */
  boolean isAlwaysF32() {
    return shape.size() == 1 || OutputType.isAlwaysF32(gguf);
  }
}
