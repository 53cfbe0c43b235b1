// Calls one kernel with the tensors that it reads from standard input, and writes the output to standard output: for CPUs
// of another kind, run by an emulator.
//
// Input, all in native order: int64 count, then for each tensor, the output last, int64 axes and their sizes, and for all
// but the output the floats. The argument is the kernel's name.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Kernel(int, void**, int*, int64_t**, const char**, void*, void*);
extern "C" Kernel ddim_resnet, ddim_transformer, ddim_convolution, ddim_upsample, ddim_downsample, ddim_time_embedding,
    ddim_update;
extern "C" void ddim_use_threads(int);

static const struct {
  const char* name;
  Kernel* kernel;
} kernels[] = {
    {"resnet", ddim_resnet},         {"transformer", ddim_transformer}, {"convolution", ddim_convolution},
    {"upsample", ddim_upsample},     {"downsample", ddim_downsample},   {"time_embedding", ddim_time_embedding},
    {"update", ddim_update},
};

static int64_t number() {
  int64_t value = 0;
  if (fread(&value, sizeof value, 1, stdin) != 1) exit(2);
  return value;
}

int main(int argc, char** argv) {
  Kernel* kernel = nullptr;
  for (const auto& each : kernels)
    if (argc == 2 && strcmp(each.name, argv[1]) == 0) kernel = each.kernel;
  if (!kernel) return 4;
  const int count = static_cast<int>(number());
  static void* tensors[32];  // never freed: the program ends with them
  static int64_t* shapes[32];
  int64_t size = 0;
  for (int i = 0; i < count; i++) {
    const int64_t axes = number();
    shapes[i] = static_cast<int64_t*>(calloc(axes + 1, sizeof(int64_t)));
    size = 1;
    for (int64_t axis = 0; axis < axes; axis++) size *= shapes[i][axis] = number();
    float* data = static_cast<float*>(calloc(size + 1, sizeof(float)));
    if (i + 1 < count && fread(data, sizeof(float), size, stdin) != static_cast<size_t>(size)) return 3;
    tensors[i] = data;
  }
  ddim_use_threads(2);
  const int status = kernel(count, tensors, nullptr, shapes, nullptr, nullptr, nullptr);
  fwrite(tensors[count - 1], sizeof(float), size, stdout);
  return status;
}
