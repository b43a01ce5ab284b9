package dev.attar.quant;

import dev.attar.formats.TensorInfo;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Comparator;
import java.util.OptionalInt;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The order in which llama-quantize takes and writes tensors: those outside layers, then layer by layer, each by name. */
final class TensorOrder {

  private static final Pattern BLOCK = Pattern.compile("^blk\\.\\s*([+-]?\\d{1,9})");

  static final Comparator<TensorInfo> COMPARATOR = Comparator.comparingInt((TensorInfo t) ->
    layer(t.name()).orElse(-1)
  ).thenComparing(t -> t.name().getBytes(StandardCharsets.UTF_8), Arrays::compareUnsigned);

  private TensorOrder() {}

  /** The layer number in a tensor's name ({@code blk.12.attn_q.weight}); empty if there is none. */
  static OptionalInt layer(String name) {
    Matcher matcher = BLOCK.matcher(name);
    return matcher.find() ? OptionalInt.of(Integer.parseInt(matcher.group(1))) : OptionalInt.empty();
  }
}
