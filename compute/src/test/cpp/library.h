// What the stand-ins for cuBLAS and cuSOLVER share: checks of matrices in device memory, and work on streams. Matrices are
// column-major: the number in row i and column j is at j * ld + i.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

// Of the stand-in for libcuda.so.1.
extern "C" {
int emulated_cuda_check(const void *start, size_t bytes, int write, const char *who);
void emulated_cuda_forget(void *start, size_t bytes);
void emulated_cuda_report(const char *text);
int emulated_cuda_ready();
int emulated_cuda_enqueue(void *stream, int (*run)(void *), void *data, void (*release)(void *));
}

enum Fill { LOWER = 0, UPPER = 1 };

using Task = std::function<int()>;

/** Gives a task to a stream; it returns a status of the driver. */
inline int enqueue(void *stream, Task task) {
  return emulated_cuda_enqueue(
      stream, [](void *data) { return (*(Task *)data)(); }, new Task(std::move(task)), [](void *data) { delete (Task *)data; });
}

template <class... A>
void report(const char *format, A... values) {
  char text[500];
  snprintf(text, sizeof text, format, values...);
  emulated_cuda_report(text);
}

/** Reports what a leading dimension or size should have been; false then. */
inline bool expect(bool fine, const char *who, const char *what, long long found, const char *expected) {
  if (!fine) report("%s found %s %lld, expected %s", who, what, found, expected);
  return fine;
}
inline bool expectLeading(const char *who, const char *what, int found, int rows) {
  if (found >= rows && found >= 1) return true;
  report("%s found %s %d, expected at least the %d rows", who, what, found, rows > 1 ? rows : 1);
  return false;
}

/** Checks exactly the numbers of a matrix: of the last column, not what is below its last row. */
template <class T>
int checkMatrix(const T *a, size_t rows, size_t columns, size_t ld, bool write, const char *who) {
  if (rows == 0 || columns == 0) return 0;
  if (ld == rows) return emulated_cuda_check(a, rows * columns * sizeof(T), write, who);
  for (size_t j = 0; j < columns; j++) {
    if (int status = emulated_cuda_check(a + j * ld, rows * sizeof(T), write, who); status != 0) return status;
  }
  return 0;
}

/** Checks exactly a triangle with its diagonal. */
template <class T>
int checkTriangle(const T *a, size_t n, size_t ld, Fill fill, bool write, const char *who) {
  for (size_t j = 0; j < n; j++) {
    size_t from = fill == LOWER ? j : 0, count = fill == LOWER ? n - j : j + 1;
    if (int status = emulated_cuda_check(a + j * ld + from, count * sizeof(T), write, who); status != 0) return status;
  }
  return 0;
}

/** Whether two matrices share a number. */
template <class T>
bool overlap(const T *a, size_t rowsA, size_t columnsA, size_t ldA, const T *b, size_t rowsB, size_t columnsB, size_t ldB) {
  if (rowsA == 0 || columnsA == 0 || rowsB == 0 || columnsB == 0) return false;
  auto first = (intptr_t)a, second = (intptr_t)b;
  auto endA = first + (intptr_t)(((columnsA - 1) * ldA + rowsA) * sizeof(T));
  auto endB = second + (intptr_t)(((columnsB - 1) * ldB + rowsB) * sizeof(T));
  if (endA <= second || endB <= first) return false;
  for (size_t j = 0; j < columnsA; j++) {
    intptr_t from = first + (intptr_t)(j * ldA * sizeof(T)), to = from + (intptr_t)(rowsA * sizeof(T));
    // The first column of b that ends after this one of a begins.
    intptr_t step = (intptr_t)(ldB * sizeof(T)), height = (intptr_t)(rowsB * sizeof(T));
    intptr_t k = from - second - height < 0 ? 0 : (from - second - height) / step + 1;
    if (k < (intptr_t)columnsB && second + k * step < to && second + k * step + height > from) return true;
  }
  return false;
}

/** Fills what has no meaning afterwards with NaN, as if nothing had been written there. */
template <class T>
void poison(T *start, size_t count) {
  for (size_t i = 0; i < count; i++) start[i] = (T)__builtin_nan("");
  emulated_cuda_forget(start, count * sizeof(T));
}
