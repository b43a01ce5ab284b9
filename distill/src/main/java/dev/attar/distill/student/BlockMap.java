package dev.attar.distill.student;

import dev.attar.distill.DistillException;
import dev.attar.distill.DistillOptions.StatePair;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Which of a teacher's blocks the blocks of a student stand for: each for a range of them, the ranges follow each other and are all of the
 * teacher's.
 *
 * @param ends for each block of the student the last block of the teacher that it stands for. Ascending, and no number comes twice unless
 *     the student has more blocks than the teacher
 * @param obstacle why the student's blocks cannot be fitted one by one to what the teacher's give (block reconstruction); empty if they can
 * @param origin how the ranges were found, a line for the user
 */
public record BlockMap(List<Integer> ends, Optional<String> obstacle, String origin) {
  private static final String KEPT = "attar.prune.layers";

  /** What a teacher gives is as wide as its residual stream, for each token: a few states are as much as all its logits. */
  private static final int MOST_PAIRS = 4;

  /** Tokens whose rows of the embedding are looked at. */
  private static final int SAMPLES = 64;

  /** The part of the squares of the embedding in which the student's may differ: quantization to two bits changes less. */
  private static final double MOST_DIFFERENCE = 0.25;

  /** What is at the beginning of a block; no kind of pruning changes it. */
  private static final List<String> NORMS = List.of("attn_norm.weight", "ffn_norm.weight");

  public BlockMap {
    ends = List.copyOf(ends);
  }

  /**
   * Finds out. If {@code layers} does not say it, the student's blocks may still be some of the teacher's, as a pruned checkpoint's are: by
   * their norms, if these are equal, or else by {@code attar.prune.layers}. Otherwise ranges are of equal length, as nearly as can be.
   *
   * @param layers the numbers of the teacher's blocks that the student's were made of, ascending; empty if it is not known
   * @throws DistillException if a model does not say how many blocks it has, or these numbers do not fit it
   * @throws IOException if a model cannot be read
   */
  public static BlockMap of(Model teacher, Model student, Optional<List<Integer>> layers) throws IOException {
    int theirs = number(teacher, "block_count");
    int ours = number(student, "block_count");
    if (layers.isPresent()) {
      requireFit(layers.get(), ours, theirs, student);
      return map(teacher, student, layers.get(), "as chosen");
    }
    Optional<List<Integer>> equal = byNorms(teacher, student, ours, theirs);
    if (equal.isPresent()) {
      return map(teacher, student, equal.get(), "whose norms are the student's");
    }
    Optional<List<Integer>> kept = kept(student).filter(list -> fit(list, ours, theirs));
    if (kept.isPresent()) {
      return map(teacher, student, kept.get(), "as " + KEPT + " of the student says");
    }
    String origin = "the student's blocks stand for ranges of equal length of the teacher's " + theirs;
    return new BlockMap(evenly(ours, theirs), obstacle(teacher, student, ours, theirs), origin);
  }

  private static BlockMap map(Model teacher, Model student, List<Integer> layers, String how) throws IOException {
    int theirs = number(teacher, "block_count");
    String numbers = layers.stream().map(String::valueOf).collect(Collectors.joining(", "));
    String origin = "the student's blocks are the blocks " + numbers + " of the teacher's " + theirs + ", " + how;
    return new BlockMap(ends(layers, theirs), obstacle(teacher, student, layers.size(), theirs), origin);
  }

  /**
   * The ends of blocks that were taken from a teacher: each stands for itself and what was left out behind it, the first for what was left
   * out before it, too.
   *
   * @param layers the numbers of those that were taken, ascending, at least one
   * @param blocks how many the teacher has
   */
  static List<Integer> ends(List<Integer> layers, int blocks) {
    List<Integer> ends = new ArrayList<>();
    for (int i = 1; i < layers.size(); i++) {
      ends.add(layers.get(i) - 1);
    }
    ends.add(blocks - 1);
    return ends;
  }

  /** The ends of ranges of equal length, as nearly as can be. */
  static List<Integer> evenly(int student, int teacher) {
    return IntStream.rangeClosed(1, student)
      .mapToObj(i -> Math.max(0, (int) (((long) i * teacher) / student) - 1))
      .toList();
  }

  /**
   * The states to compare if nobody says which: what leaves up to four blocks of the student, the last one and others evenly before it,
   * with what leaves the teacher's blocks that they end with. Where several end with the same one, the last of them.
   */
  public List<StatePair> pairs() {
    List<StatePair> all = new ArrayList<>();
    for (int i = 0; i < ends.size(); i++) {
      if (i + 1 == ends.size() || !ends.get(i).equals(ends.get(i + 1))) {
        all.add(new StatePair(i, ends.get(i)));
      }
    }
    int count = Math.min(MOST_PAIRS, all.size());
    return evenly(count, all.size()).stream().map(all::get).toList();
  }

  private static Optional<String> obstacle(Model teacher, Model student, int ours, int theirs) throws IOException {
    int width = number(student, "embedding_length");
    int teachers = number(teacher, "embedding_length");
    if (width != teachers) {
      return Optional.of(
        "the student's residual stream is " +
          width +
          " wide, the teacher's " +
          teachers +
          ": blocks cannot be exchanged"
      );
    }
    if (ours > theirs) {
      return Optional.of("the student has more blocks, " + ours + ", than the teacher, " + theirs);
    }
    Tensor embedding = tensors(student).get("token_embd.weight");
    Tensor original = tensors(teacher).get("token_embd.weight");
    if (embedding == null || original == null || difference(embedding, original) > MOST_DIFFERENCE) {
      return Optional.of("the student's embedding is not the teacher's: what enters its blocks is something else");
    }
    return Optional.empty();
  }

  /** The squares of the difference of some rows, over those of the second's rows. */
  private static double difference(Tensor a, Tensor b) throws IOException {
    int length = Math.toIntExact(b.info().rowLength());
    long rows = Math.min(a.info().rows(), b.info().rows());
    if (a.info().rowLength() != length) {
      return Double.POSITIVE_INFINITY;
    }
    float[] ours = new float[length];
    float[] theirs = new float[length];
    double differences = 0;
    double squares = 0;
    int samples = (int) Math.min(SAMPLES, rows);
    for (int sample = 0; sample < samples; sample++) {
      long row = (sample * rows) / samples;
      a.decodeRows(row, 1, ours, 0);
      b.decodeRows(row, 1, theirs, 0);
      for (int i = 0; i < length; i++) {
        double difference = (double) ours[i] - theirs[i];
        differences += difference * difference;
        squares += (double) theirs[i] * theirs[i];
      }
    }
    return squares == 0 ? differences : differences / squares;
  }

  /** The teacher's blocks with the norms of the student's; empty unless they are one for each, ascending. */
  private static Optional<List<Integer>> byNorms(Model teacher, Model student, int ours, int theirs)
    throws IOException {
    Map<String, Tensor> original = tensors(teacher);
    Map<String, Tensor> tensors = tensors(student);
    List<List<float[]>> norms = new ArrayList<>();
    for (int block = 0; block < theirs; block++) {
      norms.add(norms(original, block));
    }
    List<Integer> found = new ArrayList<>();
    for (int block = 0; block < ours; block++) {
      List<float[]> own = norms(tensors, block);
      List<Integer> equal = IntStream.range(0, theirs)
        .filter(i -> !own.isEmpty() && equal(own, norms.get(i)))
        .boxed()
        .toList();
      if (equal.size() != 1) {
        return Optional.empty();
      }
      found.add(equal.getFirst());
    }
    return fit(found, ours, theirs) ? Optional.of(found) : Optional.empty();
  }

  private static List<float[]> norms(Map<String, Tensor> tensors, int block) throws IOException {
    List<float[]> norms = new ArrayList<>();
    for (String name : NORMS) {
      Tensor tensor = tensors.get("blk." + block + "." + name);
      if (tensor == null || tensor.info().rows() != 1) {
        return List.of();
      }
      float[] values = new float[Math.toIntExact(tensor.info().rowLength())];
      tensor.decodeRows(0, 1, values, 0);
      norms.add(values);
    }
    return norms;
  }

  private static boolean equal(List<float[]> a, List<float[]> b) {
    return a.size() == b.size() && IntStream.range(0, a.size()).allMatch(i -> Arrays.equals(a.get(i), b.get(i)));
  }

  private static Map<String, Tensor> tensors(Model model) {
    Map<String, Tensor> tensors = new HashMap<>();
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    return tensors;
  }

  private static Optional<List<Integer>> kept(Model student) {
    return student
      .metadata()
      .get(KEPT)
      .filter(value -> value.value() instanceof long[])
      .map(value ->
        Arrays.stream((long[]) value.value())
          .mapToObj(number -> Math.clamp(number, -1, Integer.MAX_VALUE))
          .toList()
      );
  }

  private static boolean fit(List<Integer> layers, int ours, int theirs) {
    boolean ascending = IntStream.range(1, layers.size()).allMatch(i -> layers.get(i) > layers.get(i - 1));
    return layers.size() == ours && ascending && layers.getFirst() >= 0 && layers.getLast() < theirs;
  }

  private static void requireFit(List<Integer> layers, int ours, int theirs, Model student) throws DistillException {
    if (!fit(layers, ours, theirs)) {
      throw new DistillException(
        student.source() +
          ": layers " +
          layers +
          ", expected " +
          ours +
          " ascending numbers from 0 to " +
          (theirs - 1) +
          ", one for each of the student's blocks"
      );
    }
  }

  private static int number(Model model, String name) throws DistillException {
    String key = model.metadata().architecture() + "." + name;
    long number = model.metadata().integer(key).orElse(0);
    if (number < 1 || number > Integer.MAX_VALUE) {
      String found = model.metadata().get(key).map(String::valueOf).orElse("nothing");
      throw new DistillException(model.source() + ": key " + key + ": found " + found + ", expected a number above 0");
    }
    return (int) number;
  }
}
