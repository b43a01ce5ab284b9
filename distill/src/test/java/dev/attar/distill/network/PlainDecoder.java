package dev.attar.distill.network;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;

/** The computation of {@link Network} in plain loops and double precision, for one sequence at a time. */
final class PlainDecoder {

  private final Shape shape;
  private final Map<String, double[]> weights = new HashMap<>();

  PlainDecoder(Model model, Shape shape) throws IOException {
    this.shape = shape;
    for (Tensor tensor : model.tensors()) {
      float[] values = MemoryModel.values(tensor);
      double[] copy = new double[values.length];
      for (int i = 0; i < copy.length; i++) {
        copy[i] = values[i];
      }
      weights.put(tensor.info().name(), copy);
    }
  }

  /** A tensor's values, which may be changed. */
  double[] weights(String name) {
    return weights.get(name);
  }

  /** The logits of each position. */
  double[][] logits(int[] tokens) {
    int n = tokens.length;
    int d = shape.embedding();
    double[][] stream = new double[n][];
    for (int i = 0; i < n; i++) {
      stream[i] = new double[d];
      System.arraycopy(weights("token_embd.weight"), tokens[i] * d, stream[i], 0, d);
    }
    for (int block = 0; block < shape.blocks(); block++) {
      attention("blk." + block + ".", stream);
      feedForward("blk." + block + ".", stream);
    }
    double[][] logits = new double[n][];
    String head = shape.tied() ? "token_embd.weight" : "output.weight";
    for (int i = 0; i < n; i++) {
      logits[i] = product(head, null, norm(stream[i], 0, d, "output_norm.weight"), shape.vocabulary());
    }
    return logits;
  }

  private void attention(String block, double[][] stream) {
    int n = stream.length;
    int size = shape.size();
    double[][] q = new double[n][];
    double[][] k = new double[n][];
    double[][] v = new double[n][];
    for (int i = 0; i < n; i++) {
      double[] x = norm(stream[i], 0, shape.embedding(), block + "attn_norm.weight");
      q[i] = heads(product(block + "attn_q", x, shape.heads() * size), block + "attn_q_norm.weight", i);
      k[i] = heads(product(block + "attn_k", x, shape.groups() * size), block + "attn_k_norm.weight", i);
      v[i] = product(block + "attn_v", x, shape.groups() * size);
    }
    for (int i = 0; i < n; i++) {
      double[] out = new double[shape.heads() * size];
      for (int h = 0; h < shape.heads(); h++) {
        int group = (h / (shape.heads() / shape.groups())) * size;
        double[] p = new double[i + 1];
        double sum = 0;
        for (int j = 0; j <= i; j++) {
          double dot = 0;
          for (int c = 0; c < size; c++) {
            dot += q[i][h * size + c] * k[j][group + c];
          }
          p[j] = Math.exp(dot * shape.scale());
          sum += p[j];
        }
        for (int j = 0; j <= i; j++) {
          for (int c = 0; c < size; c++) {
            out[h * size + c] += (p[j] / sum) * v[j][group + c];
          }
        }
      }
      add(product(block + "attn_output", out, shape.embedding()), stream[i]);
    }
  }

  /** Normalizes heads if they have a norm, and rotates them. */
  private double[] heads(double[] x, String norm, int position) {
    int size = shape.size();
    double[] frequencies = shape.rotary().frequencies();
    double[] out = new double[x.length];
    for (int head = 0; head < x.length; head += size) {
      double[] one = norm(x, head, size, norm);
      for (int pair = 0; pair < size / 2; pair++) {
        int a = shape.rotary().neighbours() ? 2 * pair : pair;
        int b = shape.rotary().neighbours() ? 2 * pair + 1 : pair + size / 2;
        double cos = Math.cos(position * frequencies[pair]) * shape.rotary().magnitude();
        double sin = Math.sin(position * frequencies[pair]) * shape.rotary().magnitude();
        out[head + a] = one[a] * cos - one[b] * sin;
        out[head + b] = one[a] * sin + one[b] * cos;
      }
    }
    return out;
  }

  private void feedForward(String block, double[][] stream) {
    for (double[] row : stream) {
      double[] x = norm(row, 0, shape.embedding(), block + "ffn_norm.weight");
      double[] gate = product(block + "ffn_gate", x, shape.feedForward());
      double[] up = product(block + "ffn_up", x, shape.feedForward());
      for (int i = 0; i < gate.length; i++) {
        gate[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i];
      }
      add(product(block + "ffn_down", gate, shape.embedding()), row);
    }
  }

  private static void add(double[] x, double[] to) {
    for (int i = 0; i < x.length; i++) {
      to[i] += x[i];
    }
  }

  /** A part of a row, normalized if there is such a norm. */
  private double[] norm(double[] x, int from, int length, String name) {
    double[] out = new double[length];
    System.arraycopy(x, from, out, 0, length);
    double[] weight = weights.get(name);
    if (weight == null) {
      return out;
    }
    double squares = 0;
    for (double value : out) {
      squares += value * value;
    }
    for (int i = 0; i < length; i++) {
      out[i] *= weight[i] / Math.sqrt(squares / length + shape.epsilon());
    }
    return out;
  }

  private double[] product(String layer, double[] x, int rows) {
    return product(layer + ".weight", weights.get(layer + ".bias"), x, rows);
  }

  private double[] product(String weight, double[] bias, double[] x, int rows) {
    double[] w = weights.get(weight);
    double[] out = new double[rows];
    for (int i = 0; i < rows; i++) {
      double sum = bias == null ? 0 : bias[i];
      for (int j = 0; j < x.length; j++) {
        sum += w[i * x.length + j] * x[j];
      }
      out[i] = sum;
    }
    return out;
  }
}
