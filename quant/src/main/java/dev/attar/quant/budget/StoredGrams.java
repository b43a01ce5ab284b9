package dev.attar.quant.budget;

import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The Gram matrices that calibration has put into a store. An expert that has none of its own gets that of all experts together, as if
 * it had met as many tokens as they in the mean.
 */
public final class StoredGrams implements GramSource {

  private final GramStore store;
  private final Map<String, LinearInput> inputs = new HashMap<>();

  /**
   * @param store where they are
   * @param inputs the inputs of the model's layers, as calibration found them
   */
  public StoredGrams(GramStore store, List<LinearInput> inputs) {
    this.store = store;
    for (LinearInput input : inputs) {
      input.weights().forEach(weight -> this.inputs.put(weight, input));
    }
  }

  @Override
  public Optional<Gram> gram(String tensor, int expert) throws IOException {
    LinearInput input = inputs.get(tensor);
    if (input == null || expert >= input.experts()) {
      return Optional.empty();
    }
    Optional<dev.attar.calibration.Gram> own = store.find(new GramRequest(input, expert));
    if (own.isPresent() || input.experts() == 1) {
      return own.map(gram -> new Stored(gram, gram.tokens()));
    }
    return store.find(GramRequest.all(input)).map(gram -> new Stored(gram, gram.tokens() / input.experts()));
  }

  private record Stored(dev.attar.calibration.Gram gram, long tokens) implements Gram {
    @Override
    public int columns() {
      return gram.columns();
    }

    @Override
    public MemorySegment upper() {
      return gram.upper();
    }

    @Override
    public void close() {
      gram.close();
    }
  }
}
