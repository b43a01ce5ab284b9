package dev.attar.distill.student;

import dev.attar.distill.DistillException;
import dev.attar.formats.DerivedModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.architecture.SizeLabel;
import java.io.IOException;
import java.lang.reflect.Array;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** A model with the first tokens of its vocabulary. Nothing is copied: rows of the embedding and the head are those of the model. */
public final class TruncatedVocabulary {

  private static final String TOKENS = "tokenizer.ggml.tokens";

  /** Lists with an entry for each token. */
  private static final Set<String> PER_TOKEN = Set.of(TOKENS, "tokenizer.ggml.scores", "tokenizer.ggml.token_type");

  /** Matrices with a row for each token. */
  private static final Set<String> MATRICES = Set.of("token_embd.weight", "output.weight");

  private TruncatedVocabulary() {}

  /**
   * Presents it. Tokens with roles that are cut away lose them.
   *
   * @param model the model, which must stay open; closing the result leaves it open
   * @param tokens how many are left, at least 1
   * @return {@code model} itself if it has no more
   * @throws DistillException if it has fewer
   */
  public static Model of(Model model, int tokens) throws DistillException {
    boolean longer = false;
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      if (MATRICES.contains(info.name())) {
        if (info.rows() < tokens) {
          String problem = "tensor " + info.name() + ": found " + info.rows() + " rows, expected at least ";
          throw new DistillException(model.source() + ": " + problem + tokens + ", one for each token");
        }
        longer |= info.rows() > tokens;
      }
    }
    int named = model.metadata().get(TOKENS).map(MetadataValue::length).orElse(tokens);
    if (named < tokens) {
      String problem = TOKENS + ": found " + named + " tokens, expected at least " + tokens;
      throw new DistillException(model.source() + ": " + problem);
    }
    if (!longer && named == tokens) {
      return model;
    }
    List<Tensor> tensors = new ArrayList<>();
    for (Tensor tensor : model.tensors()) {
      tensors.add(MATRICES.contains(tensor.info().name()) ? FirstRows.of(tensor, tokens) : tensor);
    }
    return new DerivedModel(model, metadata(model, tokens, tensors), tensors);
  }

  private static Metadata metadata(Model model, int tokens, List<Tensor> tensors) {
    Map<String, MetadataValue> out = new LinkedHashMap<>();
    String size = model.metadata().architecture() + ".vocab_size";
    model
      .metadata()
      .values()
      .forEach((key, value) -> {
        if (PER_TOKEN.contains(key)) {
          out.put(key, first(value, tokens));
        } else if (key.equals(size)) {
          out.put(key, new MetadataValue(value.type(), null, (long) tokens));
        } else if (!isTokenBeyond(key, value, tokens)) {
          out.put(key, value);
        }
      });
    out.computeIfPresent("general.size_label", (_, _) -> MetadataValue.string(SizeLabel.of(tensors)));
    return Metadata.of(out);
  }

  private static boolean isTokenBeyond(String key, MetadataValue value, int tokens) {
    return key.startsWith("tokenizer.") && key.endsWith("_token_id") && value.value() instanceof Long n && n >= tokens;
  }

  private static MetadataValue first(MetadataValue list, int length) {
    if (list.type() != MetadataValue.Type.ARRAY || list.length() <= length) {
      return list;
    }
    Object values = Array.newInstance(list.value().getClass().getComponentType(), length);
    System.arraycopy(list.value(), 0, values, 0, length);
    return new MetadataValue(MetadataValue.Type.ARRAY, list.elementType(), values);
  }

  /** The first rows of a matrix. */
  private record FirstRows(Tensor source, TensorInfo info) implements Tensor {
    static FirstRows of(Tensor source, long rows) {
      TensorInfo whole = source.info();
      return new FirstRows(source, new TensorInfo(whole.name(), whole.type(), new long[] { whole.rowLength(), rows }));
    }

    @Override
    public void readRows(long firstRow, int rows, byte[] out, int outOffset) throws IOException {
      source.readRows(firstRow, rows, out, outOffset);
    }

    @Override
    public void decodeRows(long firstRow, int rows, float[] out, int outOffset) throws IOException {
      source.decodeRows(firstRow, rows, out, outOffset);
    }
  }
}
