package dev.attar.quant;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;

/**
 * The few numbers of a model that the choice of types depends on.
 *
 * @param architecture {@code general.architecture}
 * @param layers number of layers, those for predicting further tokens included
 * @param experts number of experts, 0 for a dense model
 * @param queriesPerKey how many query heads share a key/value head in the first layer; 0 if it has none
 * @param llama70b whether llama.cpp takes it for one of the 70B models, whose value projections are an eighth of the query projections
 */
record Hyperparameters(String architecture, int layers, int experts, int queriesPerKey, boolean llama70b) {
  static Hyperparameters of(Metadata metadata) {
    String architecture = metadata.architecture();
    int blocks = integer(metadata, architecture + ".block_count");
    int predicting = integer(metadata, architecture + ".nextn_predict_layers");
    int experts = integer(metadata, architecture + ".expert_count");
    int heads = integer(metadata, architecture + ".attention.head_count");
    int keyHeads = metadata.get(architecture + ".attention.head_count_kv").isPresent()
      ? integer(metadata, architecture + ".attention.head_count_kv")
      : heads;
    int layers = switch (architecture) {
      // These two run more layers than the file has blocks: all blocks several times; one more for the router.
      case "nanbeige" -> blocks * Math.max(1, integer(metadata, architecture + ".num_loops"));
      case "graniteswitch" -> blocks - predicting + 1;
      default -> blocks;
    };
    boolean llama70b = switch (architecture) {
      case "llama", "llama-embed" -> blocks - predicting == 80 && experts != 8 && heads != keyHeads;
      case "qwen2", "deci", "olmo" -> blocks - predicting == 80;
      case "jais2" -> blocks - predicting == 68;
      default -> false;
    };
    return new Hyperparameters(architecture, layers, experts, keyHeads == 0 ? 0 : heads / keyHeads, llama70b);
  }

  /** A whole number, or the first of an array of them; 0 if there is none or it is absurd. */
  private static int integer(Metadata metadata, String key) {
    long value = switch (metadata.get(key).map(MetadataValue::value).orElse(null)) {
      case Long n -> n;
      case long[] all when all.length > 0 -> all[0];
      case null, default -> 0;
    };
    return value < 0 || value > 0xFFFF ? 0 : (int) value;
  }

  boolean isFalcon() {
    return architecture.equals("falcon");
  }
}
