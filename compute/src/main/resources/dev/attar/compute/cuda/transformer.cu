#include "sums.cuh"

// What a transformer computes row by row or number by number, and the derivatives of it: TransformerOperations but attention and the
// distributions' loss. Where blocks have a y, those in x go along a row, and those in y take every gridDim.y-th row.
//
// A gradient of weights is a sum over rows. It is computed in two steps of fixed order: each of gridDim.y blocks sums a share of the rows,
// then addParts sums these parts. Nothing is added atomically, so the same numbers come out in each run.

// ---- Embedding and bias.

// out[i] = table[tokens[i]], rows of d.
extern "C" __global__ void embed(const int *tokens, const float *table, int n, int d, float *out) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= d) {
    return;
  }
  for (long long i = blockIdx.y; i < n; i += gridDim.y) {
    out[i * d + column] = table[(long long) tokens[i] * d + column];
  }
}

// Adds rows to the table's rows. There are count different tokens; token i's rows are those from begins[i] to begins[i + 1] in places.
extern "C" __global__ void embedGradient(
    const int *tokens, const int *begins, const int *places, int count, const float *outGradient, int d, float *table) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= d) {
    return;
  }
  for (int i = blockIdx.y; i < count; i += gridDim.y) {
    float sum = 0;
    for (int j = begins[i]; j < begins[i + 1]; j++) {
      sum += outGradient[(long long) places[j] * d + column];
    }
    table[(long long) tokens[i] * d + column] += sum;
  }
}

// Adds bias to each of n rows of d.
extern "C" __global__ void addBias(const float *bias, int n, int d, float *to) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= d) {
    return;
  }
  for (long long i = blockIdx.y; i < n; i += gridDim.y) {
    to[i * d + column] += bias[column];
  }
}

// parts (gridDim.y, d) = sums of the columns over shares of n rows.
extern "C" __global__ void columnSums(const float *a, long long n, int d, long long share, float *parts) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= d) {
    return;
  }
  float sum = 0;
  for (long long i = blockIdx.y * share; i < min(n, (blockIdx.y + 1) * share); i++) {
    sum += a[i * d + column];
  }
  parts[(long long) blockIdx.y * d + column] = sum;
}

// Adds the sums of the columns of parts (count, d) to a row.
extern "C" __global__ void addParts(const float *parts, int count, int d, float *to) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= d) {
    return;
  }
  float sum = 0;
  for (long long i = 0; i < count; i++) {
    sum += parts[i * d + column];
  }
  to[column] += sum;
}

// ---- Root mean square normalization, of n rows of d. A warp takes a row. Sums are in double precision: the derivative is a difference
// that may be small.

#define ROW_OF_WARP(n)                                                              \
  long long row = ((long long) blockIdx.x * blockDim.x + threadIdx.x) / 32;         \
  int lane = threadIdx.x % 32;                                                      \
  if (row >= (n)) {                                                                 \
    return;                                                                         \
  }

// 1 / sqrt(mean(x²) + epsilon), in each of a warp's threads.
static __device__ __forceinline__ double inverseNorm(const float *x, int d, float epsilon, int lane) {
  double sum = 0;
  for (int i = lane; i < d; i += 32) {
    sum += (double) x[i] * x[i];
  }
  return 1 / sqrt(sumOfWarp(sum) / d + epsilon);
}

extern "C" __global__ void rmsNorm(
    const float *x, const float *weight, float epsilon, long long n, int d, float *out) {
  ROW_OF_WARP(n)
  x += row * d;
  out += row * d;
  float inverse = (float) inverseNorm(x, d, epsilon, lane);
  for (int i = lane; i < d; i += 32) {
    out[i] = x[i] * inverse * weight[i];
  }
}

// What the derivative needs of each row: inverse = 1 / sqrt(mean(x²) + epsilon), and slope = inverse³ mean(x * weight * outGradient).
extern "C" __global__ void rmsNormMoments(
    const float *x,
    const float *weight,
    float epsilon,
    const float *outGradient,
    long long n,
    int d,
    float *inverses,
    float *slopes) {
  ROW_OF_WARP(n)
  x += row * d;
  outGradient += row * d;
  double inverse = inverseNorm(x, d, epsilon, lane);
  double sum = 0;
  for (int i = lane; i < d; i += 32) {
    sum += (double) x[i] * weight[i] * outGradient[i];
  }
  sum = sumOfWarp(sum);
  if (lane == 0) {
    inverses[row] = (float) inverse;
    slopes[row] = (float) (sum / d * inverse * inverse * inverse);
  }
}

// parts (gridDim.y, d) = sums of outGradient * x * inverse over shares of the rows.
extern "C" __global__ void rmsNormWeightParts(
    const float *x, const float *outGradient, const float *inverses, long long n, int d, long long share, float *parts) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= d) {
    return;
  }
  float sum = 0;
  for (long long i = blockIdx.y * share; i < min(n, (blockIdx.y + 1) * share); i++) {
    sum = fmaf(outGradient[i * d + column], x[i * d + column] * inverses[i], sum);
  }
  parts[(long long) blockIdx.y * d + column] = sum;
}

// xGradient = inverse weight * outGradient - slope x, or that is added to it.
extern "C" __global__ void rmsNormGradient(
    const float *x,
    const float *weight,
    const float *outGradient,
    const float *inverses,
    const float *slopes,
    long long n,
    int d,
    int add,
    float *xGradient) {
  ROW_OF_WARP(n)
  x += row * d;
  outGradient += row * d;
  xGradient += row * d;
  float inverse = inverses[row];
  float slope = slopes[row];
  for (int i = lane; i < d; i += 32) {
    float gradient = inverse * weight[i] * outGradient[i] - slope * x[i];
    xGradient[i] = add ? xGradient[i] + gradient : gradient;
  }
}

// ---- Rotary embedding.

// Rotates the first 2 pairs numbers of each head of x (n, heads size) by angles (length, 2 pairs): cosines, then sines.
extern "C" __global__ void rotate(
    const float *angles, int n, int length, int heads, int size, int pairs, int neighbours, int back, float *x) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= heads * pairs) {
    return;
  }
  int pair = column % pairs;
  long long first = (long long) column / pairs * size + (neighbours ? 2 * pair : pair);
  long long second = first + (neighbours ? 1 : pairs);
  for (long long i = blockIdx.y; i < n; i += gridDim.y) {
    const float *position = angles + (long long) ((int) i % length) * 2 * pairs;
    float cosine = position[pair];
    float sine = back ? -position[pairs + pair] : position[pairs + pair];
    float *row = x + i * heads * size;
    float a = row[first];
    float b = row[second];
    row[first] = a * cosine - b * sine;
    row[second] = a * sine + b * cosine;
  }
}

// ---- Number by number.

extern "C" __global__ void swiGlu(const float *gate, const float *up, long long count, float *out) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
  }
}

// The gradients may be where the other three are.
extern "C" __global__ void swiGluGradient(
    const float *gate,
    const float *up,
    const float *outGradient,
    long long count,
    float *gateGradient,
    float *upGradient) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    float x = gate[i];
    float y = up[i];
    float slope = outGradient[i];
    float sigmoid = 1 / (1 + expf(-x));
    gateGradient[i] = slope * y * sigmoid * (1 + x * (1 - sigmoid));
    upGradient[i] = slope * x * sigmoid;
  }
}

extern "C" __global__ void scale(float factor, long long count, float *x) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    x[i] = factor == 0 ? 0 : x[i] * factor;
  }
}

// AdamW; corrections are what the means are divided by.
extern "C" __global__ void adamW(
    float *weights,
    const float *gradient,
    float *first,
    float *second,
    long long count,
    float rate,
    float beta1,
    float beta2,
    float epsilon,
    float decay,
    float firstCorrection,
    float secondCorrection,
    float gradientScale) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    float g = gradient[i] * gradientScale;
    float m = beta1 * first[i] + (1 - beta1) * g;
    float v = beta2 * second[i] + (1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    float step = m / firstCorrection / (sqrtf(v / secondCorrection) + epsilon);
    weights[i] -= rate * (step + decay * weights[i]);
  }
}

// sums[b] = the sum of the squares that block b takes: every gridDim.x-th stretch of numbers.
extern "C" __global__ void squares(const float *x, long long count, double *sums) {
  __shared__ double scratch[32];
  double sum = 0;
  for (long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long) gridDim.x * blockDim.x) {
    sum += (double) x[i] * x[i];
  }
  sum = sumOfBlock(sum, scratch);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
  }
}

// ---- Loss of hidden states, of n rows of d. A warp takes a row.

extern "C" __global__ void squaredLoss(
    float *states, const float *teacher, int n, int d, float scale, float *losses) {
  ROW_OF_WARP(n)
  states += row * d;
  teacher += row * d;
  double sum = 0;
  for (int i = lane; i < d; i += 32) {
    float difference = states[i] - teacher[i];
    sum += (double) difference * difference;
    states[i] = scale * 2 / d * difference;
  }
  sum = sumOfWarp(sum);
  if (lane == 0) {
    losses[row] = (float) (sum / d);
  }
}

// Of a row of zeros, the cosine with any other is 0 and has no derivative; the loss of two of them is 0.
extern "C" __global__ void cosineLoss(
    float *states, const float *teacher, int n, int d, float scale, float *losses) {
  ROW_OF_WARP(n)
  states += row * d;
  teacher += row * d;
  double product = 0;
  double ours = 0;
  double theirs = 0;
  for (int i = lane; i < d; i += 32) {
    double x = states[i];
    double y = teacher[i];
    product += x * y;
    ours += x * x;
    theirs += y * y;
  }
  product = sumOfWarp(product);
  ours = sumOfWarp(ours);
  theirs = sumOfWarp(theirs);
  // The gradient is that of -x'y / (|x| |y|): -y / (|x| |y|) + x x'y / (|x|³ |y|).
  double norms = sqrt(ours) * sqrt(theirs);
  double cosine = norms == 0 ? 0 : product / norms;
  double ofStates = norms == 0 ? 0 : scale * cosine / ours;
  double ofTeacher = norms == 0 ? 0 : scale / norms;
  for (int i = lane; i < d; i += 32) {
    states[i] = (float) (ofStates * states[i] - ofTeacher * teacher[i]);
  }
  if (lane == 0) {
    losses[row] = ours == 0 && theirs == 0 ? 0 : (float) (1 - cosine);
  }
}
