package dev.attar.quant.budget;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.quant.QuantizationPlan;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.Map;

/** How large a quantized model may become. */
public sealed interface SizeTarget {
  /** The bytes of a plan that count. */
  long bytes(QuantizationPlan plan);

  /** How many {@link #bytes(QuantizationPlan)} a plan for the same model may have. */
  long limit(QuantizationPlan plan);

  /** The part of one tensor in {@link #bytes(QuantizationPlan)}, for files of this alignment. */
  long bytes(TensorInfo tensor, long alignment);

  /** The size of a plan in the target's unit, as text; as a target it admits the plan. */
  String sizeText(QuantizationPlan plan);

  /** What a file made for the target says of it. */
  Map<String, MetadataValue> metadata();

  /** Whether a plan is small enough. */
  default boolean admits(QuantizationPlan plan) {
    return bytes(plan) <= limit(plan);
  }

  /**
   * A file of at most so many bytes, all included: header, metadata and padding.
   *
   * @param bytes at least 1
   */
  record FileSize(long bytes) implements SizeTarget {
    public FileSize {
      if (bytes < 1) {
        throw new IllegalArgumentException("a target of " + bytes + " bytes");
      }
    }

    @Override
    public long bytes(QuantizationPlan plan) {
      return plan.fileBytes();
    }

    @Override
    public long limit(QuantizationPlan plan) {
      return bytes;
    }

    @Override
    public long bytes(TensorInfo tensor, long alignment) {
      return Math.ceilDiv(tensor.bytes(), alignment) * alignment;
    }

    @Override
    public String sizeText(QuantizationPlan plan) {
      return text(plan.fileBytes());
    }

    @Override
    public Map<String, MetadataValue> metadata() {
      return Map.of("attar.quantize.target_size", MetadataValue.uint64(bytes));
    }

    @Override
    public String toString() {
      return text(bytes);
    }

    private static String text(long bytes) {
      return bytes + (bytes == 1 ? " byte" : " bytes");
    }
  }

  /**
   * Tensors of at most so many bits per weight in the mean of all, those that are not quantized included: {@link
   * QuantizationPlan#bitsPerWeight}.
   *
   * @param bits more than 0
   */
  record BitsPerWeight(double bits) implements SizeTarget {
    public BitsPerWeight {
      if (!(bits > 0 && bits < 1024)) {
        throw new IllegalArgumentException("a target of " + bits + " bits per weight");
      }
    }

    @Override
    public long bytes(QuantizationPlan plan) {
      return plan.bytesAfter();
    }

    @Override
    public long limit(QuantizationPlan plan) {
      long elements = plan.elements();
      long limit = (long) Math.floor((bits * elements) / 8);
      // The product may have been rounded up.
      return limit > 0 && (8.0 * limit) / elements > bits ? limit - 1 : limit;
    }

    @Override
    public long bytes(TensorInfo tensor, long alignment) {
      return tensor.bytes();
    }

    @Override
    public String sizeText(QuantizationPlan plan) {
      return BigDecimal.valueOf(plan.bitsPerWeight()).setScale(4, RoundingMode.CEILING) + " bits per weight";
    }

    @Override
    public Map<String, MetadataValue> metadata() {
      return Map.of("attar.quantize.target_bpw", MetadataValue.float32((float) bits));
    }

    @Override
    public String toString() {
      String unit = bits == 1 ? " bit per weight" : " bits per weight";
      return BigDecimal.valueOf(bits).stripTrailingZeros().toPlainString() + unit;
    }
  }
}
