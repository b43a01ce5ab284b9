#include "sums.cuh"

// How far a student's distributions are from a teacher's and from the text, and the derivative of that. A block of threads takes a row of
// logits, which it reads some times; a thread takes the same numbers each time, so that it may overwrite them at last.
//
// All is computed from logarithms of probabilities: where the student's rounds to 0, p log(p / q) is finite yet. Sums are in double
// precision: those of a vocabulary are long, and their results are differences.

// As DistributionLoss.Divergence has them.
#define FORWARD 0
#define REVERSE 1

// What stands for the logarithm of a smaller probability of the teacher's, where 0 would make the reverse divergence infinite: as
// RowKernel.LEAST_LOG.
#define LEAST_LOG -100.0f

// A divergence between P and Q, event by event.
struct Divergence {
  int kind;
  float beta, logBeta, logRest;

  __device__ __forceinline__ Divergence(int kind, float beta)
      : kind(kind), beta(beta), logBeta(logf(beta)), logRest(log1pf(-beta)) {}

  // log M of the Jensen-Shannon divergence; that of P for the reverse one.
  __device__ __forceinline__ float logOther(float logP, float logQ) const {
    if (kind == REVERSE) {
      return logP < LEAST_LOG ? LEAST_LOG : logP;
    }
    float ofP = logBeta + logP;
    float ofQ = logRest + logQ;
    return fmaxf(ofP, ofQ) + log1pf(expf(fminf(ofP, ofQ) - fmaxf(ofP, ofQ)));
  }

  // q log(q / other): its sum is what the derivative needs.
  __device__ __forceinline__ float slope(float logP, float logQ) const {
    float q = expf(logQ);
    return kind == FORWARD || q == 0 ? 0 : q * (logQ - logOther(logP, logQ));
  }

  // An event's part of the divergence, given its slope.
  __device__ __forceinline__ float part(float logP, float logQ, float slope) const {
    if (kind == REVERSE) {
      return slope;
    }
    float p = expf(logP);
    if (kind == FORWARD) {
      return p == 0 ? 0 : p * (logP - logQ);
    }
    float ofP = p == 0 ? 0 : p * (logP - logOther(logP, logQ));
    return beta * ofP + (1 - beta) * slope;
  }

  // The derivative with respect to log(q) before normalization, given the sum of slopes.
  __device__ __forceinline__ float derivative(float logP, float logQ, float slopes) const {
    float q = expf(logQ);
    if (kind == FORWARD) {
      return q - expf(logP);
    }
    float of = slope(logP, logQ) - q * slopes;
    return kind == REVERSE ? of : (1 - beta) * of;
  }
};

// The greatest of a block's n numbers.
static __device__ __forceinline__ float greatest(const float *x, int n, float *scratch) {
  float own = -INFINITY;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    own = fmaxf(own, x[i]);
  }
  return maxOfBlock(own, scratch);
}

// The sum of exp(factor (x - greatest)).
static __device__ __forceinline__ double sumOfExp(const float *x, int n, float greatest, float factor, double *scratch) {
  double own = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    own += expf((x[i] - greatest) * factor);
  }
  return sumOfBlock(own, scratch);
}

// 0 where the weight is 0, whatever x is.
static __device__ __forceinline__ float weighted(float weight, float x) {
  return weight == 0 ? 0 : weight * x;
}

#define LOSS_PARAMETERS                                                                                                \
  const int *labels, int kind, float beta, float temperature, float divergenceWeight, float crossEntropyWeight,        \
      float scale

// A teacher that says all: logits of the same shape; null for no teacher. A block for each row.
extern "C" __global__ void lossOfLogits(
    float *logits, int vocabulary, const float *teacher, LOSS_PARAMETERS, float *losses) {
  __shared__ double scratch[32];
  __shared__ float maxima[32];
  long long row = blockIdx.x;
  float *z = logits + row * vocabulary;
  int label = labels[row];
  float ofLabel = label < 0 ? 0 : z[label];
  float inverse = 1 / temperature;
  float top = greatest(z, vocabulary, maxima);
  float logSum = (float) log(sumOfExp(z, vocabulary, top, 1, scratch));
  float softLogSum = 0;
  float teacherTop = 0;
  float teacherLogSum = 0;
  Divergence divergence(kind, beta);
  double sum = 0;
  double slopes = 0;
  if (teacher != 0) {
    teacher += row * vocabulary;
    teacherTop = greatest(teacher, vocabulary, maxima);
    teacherLogSum = (float) log(sumOfExp(teacher, vocabulary, teacherTop, inverse, scratch));
    softLogSum = (float) log(sumOfExp(z, vocabulary, top, inverse, scratch));
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
      float logP = (teacher[i] - teacherTop) * inverse - teacherLogSum;
      float logQ = (z[i] - top) * inverse - softLogSum;
      float slope = divergence.slope(logP, logQ);
      slopes += slope;
      sum += divergence.part(logP, logQ, slope);
    }
    slopes = sumOfBlock(slopes, scratch);
    sum = sumOfBlock(sum, scratch);
  }
  if (threadIdx.x == 0) {
    losses[2 * row] = (float) sum;
    losses[2 * row + 1] = label < 0 ? 0 : logSum - (ofLabel - top);
  }
  // The temperature's square, by 1 / temperature of the derivative.
  float divergenceFactor = scale * divergenceWeight * temperature;
  float crossEntropyFactor = label < 0 ? 0 : scale * crossEntropyWeight;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
    float x = z[i] - top;
    float gradient = weighted(crossEntropyFactor, expf(x - logSum) - (i == label ? 1 : 0));
    if (teacher != 0) {
      float logP = (teacher[i] - teacherTop) * inverse - teacherLogSum;
      gradient += weighted(divergenceFactor, divergence.derivative(logP, x * inverse - softLogSum, (float) slopes));
    }
    z[i] = gradient;
  }
}

// A teacher that says the logarithms of the probabilities of k tokens, and that of any other one: logs (n, k + 1). What the student gives
// the others is summed up without the k, which are put aside in kept (n, k) meanwhile. A block for each row.
extern "C" __global__ void lossOfTop(
    float *logits,
    int vocabulary,
    const int *tokens,
    const float *logs,
    int k,
    float *kept,
    LOSS_PARAMETERS,
    float *losses) {
  __shared__ double scratch[32];
  __shared__ float maxima[32];
  long long row = blockIdx.x;
  float *z = logits + row * vocabulary;
  tokens += row * k;
  logs += row * (k + 1);
  kept += row * k;
  int label = labels[row];
  float ofLabel = label < 0 ? 0 : z[label];
  float inverse = 1 / temperature;
  __syncthreads();
  for (int i = threadIdx.x; i < k; i += blockDim.x) {
    kept[i] = z[tokens[i]];
    z[tokens[i]] = -INFINITY;
  }
  __syncthreads();
  float restTop = greatest(z, vocabulary, maxima);
  float top = fmaxf(restTop, greatest(kept, k, maxima));
  float logSum = (float) log(sumOfExp(z, vocabulary, top, 1, scratch) + sumOfExp(kept, k, top, 1, scratch));
  double restSum = sumOfExp(z, vocabulary, restTop, inverse, scratch);
  double softSum = restSum * exp((double) (restTop - top) * inverse) + sumOfExp(kept, k, top, inverse, scratch);
  float softLogSum = (float) log(softSum);
  float restLogSum = (float) log(restSum);
  float logRest = (restTop - top) * inverse + restLogSum - softLogSum;
  Divergence divergence(kind, beta);
  double sum = 0;
  double slopes = 0;
  for (int i = threadIdx.x; i <= k; i += blockDim.x) {
    float logQ = i < k ? (kept[i] - top) * inverse - softLogSum : logRest;
    float slope = divergence.slope(logs[i], logQ);
    slopes += slope;
    sum += divergence.part(logs[i], logQ, slope);
  }
  slopes = sumOfBlock(slopes, scratch);
  sum = sumOfBlock(sum, scratch);
  if (threadIdx.x == 0) {
    losses[2 * row] = (float) sum;
    losses[2 * row + 1] = label < 0 ? 0 : logSum - (ofLabel - top);
  }
  float divergenceFactor = scale * divergenceWeight * temperature;
  float crossEntropyFactor = label < 0 ? 0 : scale * crossEntropyWeight;
  // The rest's derivative is shared by its tokens as its probability is.
  float ofRest = weighted(divergenceFactor, divergence.derivative(logs[k], logRest, (float) slopes));
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
    float share = expf((z[i] - restTop) * inverse - restLogSum);
    float gradient = weighted(crossEntropyFactor, expf(z[i] - top - logSum) - (i == label ? 1 : 0));
    z[i] = gradient + ofRest * share;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < k; i += blockDim.x) {
    float x = kept[i] - top;
    float gradient = weighted(crossEntropyFactor, expf(x - logSum) - (tokens[i] == label ? 1 : 0));
    z[tokens[i]] =
        gradient + weighted(divergenceFactor, divergence.derivative(logs[i], x * inverse - softLogSum, (float) slopes));
  }
}
