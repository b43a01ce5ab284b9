// Stand-in for libcublas.so.12: the functions that are used, on the emulated GPU.

#include <cstring>
#include <set>

#include "algebra.h"
#include "library.h"

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };

struct Handle {
  void *stream = nullptr;
  int pointerMode = 0;
  int mathMode = 0;
  char *workspace = nullptr;
  size_t workspaceBytes = 0;
};
std::set<Handle *> handles;

#define FIND(pointer)                                        \
  auto *handle = (Handle *)pointer;                          \
  if (!handles.count(handle)) {                              \
    report("%s found an invalid handle", __func__);          \
    return NOT_INITIALIZED;                                  \
  }                                                          \
  if (emulated_cuda_ready() != 0) return EXECUTION_FAILED

#define EXPECT(...) \
  if (!expect(__VA_ARGS__)) return INVALID_VALUE
#define EXPECT_LEADING(...) \
  if (!expectLeading(__VA_ARGS__)) return INVALID_VALUE

Status submit(Handle *handle, Task task) {
  auto [stream, workspace, bytes] = std::tuple(handle->stream, handle->workspace, handle->workspaceBytes);
  int status = enqueue(stream, [task = std::move(task), workspace = workspace, bytes = bytes] {
    // What the caller lent is used.
    if (bytes > 0) {
      if (int status = emulated_cuda_check(workspace, bytes, 1, "cuBLAS's workspace"); status != 0) return status;
      memset(workspace, 0xff, bytes);
      emulated_cuda_forget(workspace, bytes);
    }
    return task();
  });
  return status == 0 ? SUCCESS : EXECUTION_FAILED;
}

bool isOperation(int operation) { return operation >= 0 && operation <= 2; }

/** The operand as the operation sees it. */
template <class T>
View<T> view(T *a, int ld, bool transposed) {
  View<T> plain{a, 1, ld};
  return transposed ? plain.transposed() : plain;
}

/** alpha and beta are read at once; in the device's memory they are not supported. */
#define EXPECT_HOST_SCALARS(who)                                                                     \
  EXPECT(handle->pointerMode == 0, who, "pointer mode", handle->pointerMode, "0, scalars in host memory")

template <class T>
int gemm(const char *who, void *pointer, int transA, int transB, int m, int n, int k, const T *alphaAt, const T *a, int lda,
         const T *b, int ldb, const T *betaAt, T *c, int ldc) {
  FIND(pointer);
  EXPECT_HOST_SCALARS(who);
  EXPECT(isOperation(transA), who, "transa", transA, "0, 1 or 2");
  EXPECT(isOperation(transB), who, "transb", transB, "0, 1 or 2");
  EXPECT(m >= 0, who, "m", m, "at least 0");
  EXPECT(n >= 0, who, "n", n, "at least 0");
  EXPECT(k >= 0, who, "k", k, "at least 0");
  int rowsA = transA ? k : m, columnsA = transA ? m : k, rowsB = transB ? n : k, columnsB = transB ? k : n;
  EXPECT_LEADING(who, "lda", lda, rowsA);
  EXPECT_LEADING(who, "ldb", ldb, rowsB);
  EXPECT_LEADING(who, "ldc", ldc, m);
  if (m == 0 || n == 0) return SUCCESS;
  T alpha = *alphaAt, beta = *betaAt;
  bool reads = alpha != 0 && k > 0;
  if (reads && (overlap(a, rowsA, columnsA, lda, c, m, n, ldc) || overlap(b, rowsB, columnsB, ldb, c, m, n, ldc))) {
    report("%s found that C overlaps A or B", who);
    return INVALID_VALUE;
  }
  // With CUBLAS_TF32_TENSOR_OP_MATH, operands lose 13 bits.
  bool tf32 = handle->mathMode == 3 && sizeof(T) == 4;
  return submit(handle, [=] {
    int status = 0;
    if (reads) {
      status = checkMatrix(a, rowsA, columnsA, lda, false, who);
      if (status == 0) status = checkMatrix(b, rowsB, columnsB, ldb, false, who);
    }
    if (status == 0 && beta != 0) status = checkMatrix(c, m, n, ldc, false, who);
    if (status == 0) status = checkMatrix(c, m, n, ldc, true, who);
    if (status != 0) return status;
    std::vector<T> w((size_t)m * n);
    if (reads && tf32) {
      auto rounded = [](const T *from, int rows, int columns, int ld) {
        std::vector<T> to((size_t)rows * columns);
        for (size_t i = 0; i < to.size(); i++) {
          uint32_t bits;
          memcpy(&bits, &from[i / rows * ld + i % rows], 4);
          bits = (bits + 0x1000) & 0xffffe000;
          memcpy(&to[i], &bits, 4);
        }
        return to;
      };
      auto roundedA = rounded(a, rowsA, columnsA, lda), roundedB = rounded(b, rowsB, columnsB, ldb);
      product<T>(m, n, k, view<const T>(roundedA.data(), rowsA, transA), view<const T>(roundedB.data(), rowsB, transB), w.data());
    } else if (reads) {
      product<T>(m, n, k, view(a, lda, transA), view(b, ldb, transB), w.data());
    }
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < m; i++) {
        T &to = c[(size_t)j * ldc + i];
        T value = alpha * w[(size_t)j * m + i];
        to = beta == 0 ? value : value + beta * to;
      }
    }
    return 0;
  });
}

template <class T>
int syrk(const char *who, void *pointer, int uplo, int trans, int n, int k, const T *alphaAt, const T *a, int lda, const T *betaAt,
         T *c, int ldc) {
  FIND(pointer);
  EXPECT_HOST_SCALARS(who);
  EXPECT(uplo == LOWER || uplo == UPPER, who, "uplo", uplo, "0 or 1");
  EXPECT(isOperation(trans), who, "trans", trans, "0, 1 or 2");
  EXPECT(n >= 0, who, "n", n, "at least 0");
  EXPECT(k >= 0, who, "k", k, "at least 0");
  int rows = trans ? k : n, columns = trans ? n : k;
  EXPECT_LEADING(who, "lda", lda, rows);
  EXPECT_LEADING(who, "ldc", ldc, n);
  if (n == 0) return SUCCESS;
  T alpha = *alphaAt, beta = *betaAt;
  bool reads = alpha != 0 && k > 0;
  if (reads && overlap(a, rows, columns, lda, c, n, n, ldc)) {
    report("%s found that C overlaps A", who);
    return INVALID_VALUE;
  }
  return submit(handle, [=] {
    int status = reads ? checkMatrix(a, rows, columns, lda, false, who) : 0;
    if (status == 0 && beta != 0) status = checkTriangle(c, n, ldc, (Fill)uplo, false, who);
    if (status == 0) status = checkTriangle(c, n, ldc, (Fill)uplo, true, who);
    if (status != 0) return status;
    // The upper triangle is the lower one of the transposed matrix.
    View<T> lower = view(c, ldc, uplo == UPPER);
    View<const T> x = view(a, lda, trans);
    const int WIDTH = 96;
    std::vector<T> w((size_t)n * std::min(n, WIDTH));
    for (int left = 0; left < n; left += WIDTH) {
      int width = std::min(WIDTH, n - left), height = n - left;
      std::fill(w.begin(), w.end(), T(0));
      if (reads) product<T>(height, width, k, x.block(left, 0), x.block(left, 0).transposed(), w.data());
      for (int j = 0; j < width; j++) {
        for (int i = j; i < height; i++) {
          T &to = lower.at(left + i, left + j);
          T value = alpha * w[(size_t)j * height + i];
          to = beta == 0 ? value : value + beta * to;
        }
      }
    }
    return 0;
  });
}

template <class T>
int trsm(const char *who, void *pointer, int side, int uplo, int trans, int diagonal, int m, int n, const T *alphaAt, const T *a,
         int lda, T *b, int ldb) {
  FIND(pointer);
  EXPECT_HOST_SCALARS(who);
  EXPECT(side == 0 || side == 1, who, "side", side, "0 or 1");
  EXPECT(uplo == LOWER || uplo == UPPER, who, "uplo", uplo, "0 or 1");
  EXPECT(isOperation(trans), who, "trans", trans, "0, 1 or 2");
  EXPECT(diagonal == 0 || diagonal == 1, who, "diag", diagonal, "0 or 1");
  EXPECT(m >= 0, who, "m", m, "at least 0");
  EXPECT(n >= 0, who, "n", n, "at least 0");
  bool right = side == 1, unit = diagonal == 1;
  int order = right ? n : m;
  EXPECT_LEADING(who, "lda", lda, order);
  EXPECT_LEADING(who, "ldb", ldb, m);
  if (m == 0 || n == 0) return SUCCESS;
  T alpha = *alphaAt;
  if (alpha != 0 && overlap(a, order, order, lda, b, m, n, ldb)) {
    report("%s found that B overlaps A", who);
    return INVALID_VALUE;
  }
  return submit(handle, [=] {
    int status = 0;
    if (alpha != 0) {
      // The diagonal is not read if it is ones.
      if (!unit) {
        status = checkTriangle(a, order, lda, (Fill)uplo, false, who);
      } else if (order > 1) {
        status = checkTriangle(uplo == LOWER ? a + 1 : a + lda, order - 1, lda, (Fill)uplo, false, who);
      }
      if (status == 0) status = checkMatrix(b, m, n, ldb, false, who);
    }
    if (status == 0) status = checkMatrix(b, m, n, ldb, true, who);
    if (status != 0) return status;
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < m; i++) {
        T &value = b[(size_t)j * ldb + i];
        value = alpha == 0 ? T(0) : alpha * value;
      }
    }
    if (alpha == 0) return 0;
    // X op(A) = B is op(A)' X' = B'.
    bool transposed = (trans != 0) != right;
    bool lower = (uplo == LOWER) != transposed;
    solve<T>(order, right ? m : n, view(a, lda, transposed), lower, unit, view(b, ldb, right));
    return 0;
  });
}

template <class T>
int geam(const char *who, void *pointer, int transA, int transB, int m, int n, const T *alphaAt, const T *a, int lda,
         const T *betaAt, const T *b, int ldb, T *c, int ldc) {
  FIND(pointer);
  EXPECT_HOST_SCALARS(who);
  EXPECT(isOperation(transA), who, "transa", transA, "0, 1 or 2");
  EXPECT(isOperation(transB), who, "transb", transB, "0, 1 or 2");
  EXPECT(m >= 0, who, "m", m, "at least 0");
  EXPECT(n >= 0, who, "n", n, "at least 0");
  int rowsA = transA ? n : m, columnsA = transA ? m : n, rowsB = transB ? n : m, columnsB = transB ? m : n;
  EXPECT_LEADING(who, "lda", lda, rowsA);
  EXPECT_LEADING(who, "ldb", ldb, rowsB);
  EXPECT_LEADING(who, "ldc", ldc, m);
  if (m == 0 || n == 0) return SUCCESS;
  T alpha = *alphaAt, beta = *betaAt;
  auto clash = [&](const T *x, int trans, int rows, int columns, int ld) {
    bool inPlace = x == c && ld == ldc && trans == 0;
    return !inPlace && overlap(x, rows, columns, ld, c, m, n, ldc);
  };
  if ((alpha != 0 && clash(a, transA, rowsA, columnsA, lda)) || (beta != 0 && clash(b, transB, rowsB, columnsB, ldb))) {
    report("%s found that C overlaps A or B", who);
    return INVALID_VALUE;
  }
  return submit(handle, [=] {
    int status = alpha != 0 ? checkMatrix(a, rowsA, columnsA, lda, false, who) : 0;
    if (status == 0 && beta != 0) status = checkMatrix(b, rowsB, columnsB, ldb, false, who);
    if (status == 0) status = checkMatrix(c, m, n, ldc, true, who);
    if (status != 0) return status;
    View<const T> x = view(a, lda, transA), y = view(b, ldb, transB);
    for (int j = 0; j < n; j++) {
      for (int i = 0; i < m; i++) {
        c[(size_t)j * ldc + i] = (alpha == 0 ? T(0) : alpha * x.at(i, j)) + (beta == 0 ? T(0) : beta * y.at(i, j));
      }
    }
    return 0;
  });
}

}  // namespace

EXPORT int cublasCreate_v2(void **pointer) {
  if (emulated_cuda_ready() != 0) return NOT_INITIALIZED;
  auto *handle = new Handle();
  handles.insert(handle);
  *pointer = handle;
  return SUCCESS;
}

EXPORT int cublasDestroy_v2(void *pointer) {
  auto *handle = (Handle *)pointer;
  if (handles.erase(handle) == 0) return NOT_INITIALIZED;
  delete handle;
  return SUCCESS;
}

EXPORT int cublasSetStream_v2(void *pointer, void *stream) {
  FIND(pointer);
  handle->stream = stream;
  // As the real one: back to the workspace of its own.
  handle->workspace = nullptr;
  handle->workspaceBytes = 0;
  return SUCCESS;
}

EXPORT int cublasGetStream_v2(void *pointer, void **stream) {
  FIND(pointer);
  *stream = handle->stream;
  return SUCCESS;
}

EXPORT int cublasGetVersion_v2(void *pointer, int *version) {
  FIND(pointer);
  *version = 120600;
  return SUCCESS;
}

EXPORT int cublasGetProperty(int type, int *value) {
  static const int VERSION[] = {12, 6, 0};
  if (type < 0 || type > 2) return INVALID_VALUE;
  *value = VERSION[type];
  return SUCCESS;
}

EXPORT int cublasSetMathMode(void *pointer, int mode) {
  FIND(pointer);
  handle->mathMode = mode & 15;
  return SUCCESS;
}

EXPORT int cublasSetPointerMode_v2(void *pointer, int mode) {
  FIND(pointer);
  handle->pointerMode = mode;
  return SUCCESS;
}

EXPORT int cublasSetWorkspace_v2(void *pointer, void *workspace, size_t bytes) {
  FIND(pointer);
  if ((uintptr_t)workspace % 256 != 0) return INVALID_VALUE;
  handle->workspace = (char *)workspace;
  handle->workspaceBytes = bytes;
  return SUCCESS;
}

#define FUNCTIONS(letter, type)                                                                                            \
  EXPORT int cublas##letter##gemm_v2(void *handle, int transA, int transB, int m, int n, int k, const type *alpha,          \
                                     const type *a, int lda, const type *b, int ldb, const type *beta, type *c, int ldc) {  \
    return gemm(__func__, handle, transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                            \
  }                                                                                                                        \
  EXPORT int cublas##letter##syrk_v2(void *handle, int uplo, int trans, int n, int k, const type *alpha, const type *a,     \
                                     int lda, const type *beta, type *c, int ldc) {                                         \
    return syrk(__func__, handle, uplo, trans, n, k, alpha, a, lda, beta, c, ldc);                                          \
  }                                                                                                                        \
  EXPORT int cublas##letter##trsm_v2(void *handle, int side, int uplo, int trans, int diagonal, int m, int n,               \
                                     const type *alpha, const type *a, int lda, type *b, int ldb) {                         \
    return trsm(__func__, handle, side, uplo, trans, diagonal, m, n, alpha, a, lda, b, ldb);                                \
  }                                                                                                                        \
  EXPORT int cublas##letter##geam(void *handle, int transA, int transB, int m, int n, const type *alpha, const type *a,     \
                                  int lda, const type *beta, const type *b, int ldb, type *c, int ldc) {                    \
    return geam(__func__, handle, transA, transB, m, n, alpha, a, lda, beta, b, ldb, c, ldc);                               \
  }
FUNCTIONS(S, float)
FUNCTIONS(D, double)

EXPORT const char *cublasGetStatusName(int status) {
  switch (status) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "unknown";
  }
}
EXPORT const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }
