package dev.attar.cli;

import dev.attar.formats.Metadata;
import dev.attar.formats.TensorInfo;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * How much faster a model should be than the one that it was made of, as long as nothing but its work counts.
 *
 * @param prompt processing of a prompt: operations before over operations after
 * @param generation of tokens one by one: bytes read before over bytes read after
 */
record SpeedPrediction(double prompt, double generation) {
  /** Tokens in the prompt. */
  static final int PROMPT_TOKENS = 512;

  /** Tokens that are generated, from an empty context. */
  static final int GENERATED_TOKENS = 128;

  private static final Pattern LAYER = Pattern.compile("blk\\.(\\d+)\\.(.*)");
  private static final int CACHED_BYTES = 2; // per value of keys and values: F16

  /**
   * What a model does.
   *
   * @param operations multiplications and additions, in pairs, for the prompt: each matrix once for every token, attention in the
   *     mean with half of the prompt. As llama.cpp does it, the output head, and the feed-forward network of the last layer, see only
   *     the last token. Of experts, those that are used count
   * @param bytes read for each token that is generated: weights, without those of the token embedding that are only looked up, and
   *     keys and values of the tokens before
   */
  record Work(double operations, double bytes) {
    /**
     * Adds it up.
     *
     * @param tensors as they are in the file that runs
     */
    static Work of(Metadata metadata, List<TensorInfo> tensors) {
      boolean tied = tensors.stream().noneMatch(tensor -> tensor.name().equals("output.weight"));
      int last = tensors.stream().mapToInt(SpeedPrediction::layer).max().orElse(-1);
      double used = usedExperts(metadata);
      double operations = 0;
      double bytes = 0;
      for (TensorInfo tensor : tensors) {
        String name = tensor.name();
        boolean embeds = name.startsWith("token_embd.");
        if ((embeds && !tied) || name.startsWith("per_layer_token_embd.")) {
          continue;
        }
        double share = name.contains("_exps.") ? used : 1;
        bytes += share * tensor.bytes();
        if (tensor.rank() > 1) {
          boolean once = embeds || name.startsWith("output.") || (layer(tensor) == last && name.contains(".ffn_"));
          operations += share * tensor.elements() * (once ? 1.0 : PROMPT_TOKENS);
        }
        bytes += (cached(tensor) * CACHED_BYTES * GENERATED_TOKENS) / 2.0;
        if (name.endsWith(".attn_output.weight")) {
          // Queries with keys, and weights with values: each as many as the heads have values.
          operations += (2.0 * tensor.rowLength() * PROMPT_TOKENS * PROMPT_TOKENS) / 2.0;
        }
      }
      return new Work(operations, bytes);
    }
  }

  /** What is to be expected of a model by its work and that of the one that it was made of. */
  static SpeedPrediction of(Work before, Work after) {
    return new SpeedPrediction(before.operations / after.operations, before.bytes / after.bytes);
  }

  /** In one line. */
  String line() {
    return String.format(
      Locale.ROOT,
      "predicted speed: prompt %.2f times, generation %.2f times that of the whole model in the same types",
      prompt,
      generation
    );
  }

  /** For programs. */
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("prompt", prompt);
    json.put("generation", generation);
    return json;
  }

  /** The layer that a tensor belongs to; -1 for none. */
  private static int layer(TensorInfo tensor) {
    Matcher matcher = LAYER.matcher(tensor.name());
    return matcher.matches() && matcher.group(1).length() < 10 ? Integer.parseInt(matcher.group(1)) : -1;
  }

  /** Values of a token's keys and values that this matrix makes, which stay in the cache. */
  private static long cached(TensorInfo tensor) {
    Matcher matcher = LAYER.matcher(tensor.name());
    return matcher.matches() && matcher.group(2).matches("attn_[kv]\\.weight") ? tensor.rows() : 0;
  }

  /** The part of the experts that a token passes through. */
  private static double usedExperts(Metadata metadata) {
    String architecture = metadata.architecture();
    long experts = metadata.integer(architecture + ".expert_count").orElse(0);
    long used = metadata.integer(architecture + ".expert_used_count").orElse(experts);
    return experts > 0 && used > 0 && used <= experts ? (double) used / experts : 1;
  }
}
