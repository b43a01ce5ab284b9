package dev.attar.compute;

import java.util.function.ToDoubleFunction;

/** A transformer's operations by plain loops in double precision, as their Javadoc defines them. Matrices are row-major. */
final class TransformerReference {

  private TransformerReference() {}

  static double[] rmsNorm(double[] x, double[] weight, double epsilon) {
    int d = weight.length;
    double[] out = new double[x.length];
    for (int at = 0; at < x.length; at += d) {
      double squares = 0;
      for (int i = 0; i < d; i++) {
        squares += x[at + i] * x[at + i];
      }
      for (int i = 0; i < d; i++) {
        out[at + i] = (x[at + i] / Math.sqrt(squares / d + epsilon)) * weight[i];
      }
    }
    return out;
  }

  static double[] rotate(
    double[] x,
    int columns,
    int headSize,
    double[] angles,
    int length,
    boolean neighbours,
    boolean back
  ) {
    double[] out = x.clone();
    int r = angles.length / length / 2;
    for (int head = 0; head < x.length; head += headSize) {
      int at = ((head / columns) % length) * 2 * r;
      for (int i = 0; i < r; i++) {
        int first = head + (neighbours ? 2 * i : i);
        int second = neighbours ? first + 1 : first + r;
        double cosine = angles[at + i];
        double sine = back ? -angles[at + r + i] : angles[at + r + i];
        out[first] = x[first] * cosine - x[second] * sine;
        out[second] = x[first] * sine + x[second] * cosine;
      }
    }
    return out;
  }

  /** Attention's result, and behind it the logarithms of sums. */
  static double[] attend(double[] q, double[] k, double[] v, AttentionShape shape) {
    int size = shape.size();
    int heads = shape.heads();
    int groups = shape.groups();
    int n = q.length / heads / size;
    double[] out = new double[q.length + n * heads];
    for (int row = 0; row < n; row++) {
      int position = row % shape.length();
      int start = row - position;
      int first = shape.window() == 0 ? 0 : Math.max(0, position - shape.window() + 1);
      for (int head = 0; head < heads; head++) {
        int group = head / (heads / groups);
        double[] scores = new double[position + 1];
        double most = Double.NEGATIVE_INFINITY;
        for (int j = first; j <= position; j++) {
          for (int i = 0; i < size; i++) {
            scores[j] +=
              shape.scale() * q[(row * heads + head) * size + i] * k[((start + j) * groups + group) * size + i];
          }
          most = Math.max(most, scores[j]);
        }
        double sum = 0;
        for (int j = first; j <= position; j++) {
          sum += Math.exp(scores[j] - most);
        }
        out[q.length + row * heads + head] = most + Math.log(sum);
        for (int j = first; j <= position; j++) {
          double p = Math.exp(scores[j] - most) / sum;
          for (int i = 0; i < size; i++) {
            out[(row * heads + head) * size + i] += p * v[((start + j) * groups + group) * size + i];
          }
        }
      }
    }
    return out;
  }

  /**
   * The derivative of {@link #attend}, by its own formula, for shapes that are too large for differences.
   *
   * @return those of q, k and v
   */
  static double[][] attendGradient(double[] q, double[] k, double[] v, AttentionShape shape, double[] outGradient) {
    int size = shape.size();
    int heads = shape.heads();
    int groups = shape.groups();
    double[] out = attend(q, k, v, shape);
    double[][] gradients = { new double[q.length], new double[k.length], new double[v.length] };
    for (int row = 0; row < q.length / heads / size; row++) {
      int position = row % shape.length();
      int first = shape.window() == 0 ? 0 : Math.max(0, position - shape.window() + 1);
      for (int head = 0; head < heads; head++) {
        int at = (row * heads + head) * size;
        for (int j = first; j <= position; j++) {
          int seen = ((row - position + j) * groups + head / (heads / groups)) * size;
          double score = 0;
          double change = 0;
          for (int i = 0; i < size; i++) {
            score += shape.scale() * q[at + i] * k[seen + i];
            change += outGradient[at + i] * (v[seen + i] - out[at + i]);
          }
          double p = Math.exp(score - out[q.length + row * heads + head]);
          for (int i = 0; i < size; i++) {
            gradients[0][at + i] += shape.scale() * p * change * k[seen + i];
            gradients[1][seen + i] += shape.scale() * p * change * q[at + i];
            gradients[2][seen + i] += p * outGradient[at + i];
          }
        }
      }
    }
    return gradients;
  }

  static double[] swiGlu(double[] gate, double[] up) {
    double[] out = new double[gate.length];
    for (int i = 0; i < out.length; i++) {
      out[i] = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i];
    }
    return out;
  }

  static double[] logSoftmax(double[] logits, double temperature) {
    double most = Double.NEGATIVE_INFINITY;
    for (double logit : logits) {
      most = Math.max(most, logit);
    }
    double sum = 0;
    for (double logit : logits) {
      sum += Math.exp((logit - most) / temperature);
    }
    double[] logs = new double[logits.length];
    for (int i = 0; i < logs.length; i++) {
      logs[i] = (logits[i] - most) / temperature - Math.log(sum);
    }
    return logs;
  }

  /** The logarithms of some tokens' probabilities, and of the rest's mass. */
  static double[] events(double[] logs, int[] tokens) {
    double[] events = new double[tokens.length + 1];
    double most = Double.NEGATIVE_INFINITY;
    double[] rest = logs.clone();
    for (int j = 0; j < tokens.length; j++) {
      events[j] = logs[tokens[j]];
      rest[tokens[j]] = Double.NEGATIVE_INFINITY;
    }
    for (double log : rest) {
      most = Math.max(most, log);
    }
    double sum = 0;
    for (double log : rest) {
      sum += Math.exp(log - most);
    }
    events[tokens.length] = most == Double.NEGATIVE_INFINITY ? most : most + Math.log(sum);
    return events;
  }

  /** A divergence of distributions, given by logarithms. */
  static double divergence(double[] p, double[] q, DistributionLoss loss) {
    double beta = loss.beta();
    double sum = 0;
    for (int i = 0; i < p.length; i++) {
      double ep = Math.exp(p[i]);
      double eq = Math.exp(q[i]);
      double top = Math.max(p[i], q[i]);
      double mixture = top + Math.log(beta * Math.exp(p[i] - top) + (1 - beta) * Math.exp(q[i] - top));
      sum += switch (loss.divergence()) {
        case FORWARD -> ep == 0 ? 0 : ep * (p[i] - q[i]);
        case REVERSE -> eq == 0 ? 0 : eq * (q[i] - Math.max(p[i], -100));
        case JENSEN_SHANNON -> (ep == 0 ? 0 : beta * ep * (p[i] - mixture)) +
        (eq == 0 ? 0 : (1 - beta) * eq * (q[i] - mixture));
      };
    }
    return sum;
  }

  /** The loss of a row of states. */
  static double stateLoss(double[] states, double[] teacher, boolean cosine) {
    double product = 0;
    double own = 0;
    double other = 0;
    double distance = 0;
    for (int i = 0; i < states.length; i++) {
      product += states[i] * teacher[i];
      own += states[i] * states[i];
      other += teacher[i] * teacher[i];
      distance += (states[i] - teacher[i]) * (states[i] - teacher[i]);
    }
    if (!cosine) {
      return distance / states.length;
    }
    return own == 0 && other == 0 ? 0 : own == 0 || other == 0 ? 1 : 1 - product / Math.sqrt(own) / Math.sqrt(other);
  }

  /** The derivative of a function with respect to number i, by central differences. */
  static double derivative(ToDoubleFunction<double[]> function, double[] x, int i) {
    double step = 1e-5 * Math.clamp(Math.abs(x[i]), 1e-2, 1);
    double[] changed = x.clone();
    changed[i] = x[i] + step;
    double above = function.applyAsDouble(changed);
    changed[i] = x[i] - step;
    return (above - function.applyAsDouble(changed)) / (2 * step);
  }

  static double[] gradient(ToDoubleFunction<double[]> function, double[] x) {
    double[] gradient = new double[x.length];
    for (int i = 0; i < x.length; i++) {
      gradient[i] = derivative(function, x, i);
    }
    return gradient;
  }

  static double dot(double[] a, double[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += a[i] * b[i];
    }
    return sum;
  }
}
