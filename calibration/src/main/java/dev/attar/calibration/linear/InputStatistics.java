package dev.attar.calibration.linear;

import dev.attar.calibration.Gram;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.compute.Device;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** The Gram matrices of what enters some layers, made ready when they are needed. */
public final class InputStatistics implements AutoCloseable {

  /** An expert that saw fewer tokens than this for each of its columns gets the statistics of all experts together. */
  private static final double TOKENS_PER_COLUMN = 0.25;

  private final Device device;
  private final GramStore store;
  private final LinearInput input;
  private final PreparedGram.Use use;
  private final Set<Integer> unseen = new HashSet<>();
  private final List<String> warnings = new ArrayList<>();
  private PreparedGram prepared;
  private GramRequest preparedFor;
  private double mostDamping;

  /**
   * @param store holds the matrices of all experts, and of all together if there are several
   * @param use what they are wanted for
   */
  public InputStatistics(Device device, GramStore store, LinearInput input, PreparedGram.Use use) {
    this.device = device;
    this.store = store;
    this.input = input;
    this.use = use;
    mostDamping = use.damping();
  }

  /** The layers' input. */
  public LinearInput input() {
    return input;
  }

  /** The largest damping that a matrix needed so far. */
  public double damping() {
    return mostDamping;
  }

  /** The matrix of an expert. It is of use until the next one is asked for. */
  public PreparedGram of(int expert) throws IOException {
    GramRequest request = new GramRequest(input, expert);
    if (input.experts() > 1 && !sawEnough(request)) {
      unseen.add(expert);
      request = new GramRequest(input, GramRequest.POOLED);
    }
    if (!request.equals(preparedFor)) {
      close();
      try (Gram gram = find(request)) {
        prepared = prepare(gram, request);
      }
      preparedFor = request;
    }
    return prepared;
  }

  private boolean sawEnough(GramRequest expert) throws IOException {
    try (Gram own = find(expert)) {
      return own.tokens() >= TOKENS_PER_COLUMN * input.columns();
    }
  }

  private Gram find(GramRequest request) throws IOException {
    return store
      .find(request)
      .orElseThrow(() -> new IllegalStateException("the Gram matrix of " + request + " was not collected"));
  }

  private PreparedGram prepare(Gram gram, GramRequest request) throws IOException {
    float[] diagonal = new float[gram.columns()];
    boolean any = false;
    int dead = 0;
    for (int i = 0; i < diagonal.length; i++) {
      diagonal[i] = gram.get(i, i);
      any |= diagonal[i] > 0;
      dead += diagonal[i] > 0 ? 0 : 1;
    }
    if (!any) {
      warn("no token gave its input a value other than 0: its columns count alike and nothing is fed back");
      Arrays.fill(diagonal, 1);
      return PreparedGram.of(device, diagonal, to -> PreparedGram.uploadIdentity(device, to), use);
    }
    if (dead > 0) {
      warn(dead + " of " + diagonal.length + " input columns are always 0");
    }
    PreparedGram result;
    try {
      result = PreparedGram.of(device, diagonal, to -> PreparedGram.upload(device, gram, to), use);
    } catch (ArithmeticException e) {
      throw new IOException(request + ": " + e.getMessage(), e);
    }
    if (result.damping() > use.damping()) {
      warn("its Gram matrix is not positive definite with damping " + use.damping() + ": used " + result.damping());
      mostDamping = Math.max(mostDamping, result.damping());
    }
    return result;
  }

  private void warn(String problem) {
    String warning = input.name() + ": " + problem;
    if (!warnings.contains(warning)) {
      warnings.add(warning);
    }
  }

  /** What the user should know, one line each. */
  public List<String> warnings() {
    List<String> all = new ArrayList<>(warnings);
    if (!unseen.isEmpty()) {
      all.add(
        input.name() +
          ": " +
          unseen.size() +
          " of " +
          input.experts() +
          " experts saw too few tokens and get the statistics of all together"
      );
    }
    return all;
  }

  /** Frees the matrices. */
  @Override
  public void close() {
    if (prepared != null) {
      prepared.close();
      prepared = null;
      preparedFor = null;
    }
  }
}
