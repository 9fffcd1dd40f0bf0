# Every dependency as one imported target. Debian packages are found by their own means; LibTorch and Arrow come from wheels
# unpacked by scripts/setup.sh. find_package(Torch) is not used: it needs the CUDA toolkit and forces flags on us.

add_library(ft_spdlog INTERFACE)
find_package(spdlog REQUIRED)
target_link_libraries(ft_spdlog INTERFACE spdlog::spdlog)

add_library(ft_json INTERFACE)
find_package(nlohmann_json REQUIRED)
target_link_libraries(ft_json INTERFACE nlohmann_json::nlohmann_json)

add_library(ft_yaml INTERFACE)
find_package(yaml-cpp REQUIRED)
target_link_libraries(ft_yaml INTERFACE yaml-cpp)

add_library(ft_cli11 INTERFACE)
find_package(CLI11 REQUIRED)
target_link_libraries(ft_cli11 INTERFACE CLI11::CLI11)

add_library(ft_pcre2 INTERFACE)
find_path(FT_PCRE2_INCLUDE pcre2.h REQUIRED)
find_library(FT_PCRE2_LIB pcre2-8 REQUIRED)
target_include_directories(ft_pcre2 SYSTEM INTERFACE ${FT_PCRE2_INCLUDE})
target_link_libraries(ft_pcre2 INTERFACE ${FT_PCRE2_LIB})

add_library(ft_utf8proc INTERFACE)
find_path(FT_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(FT_UTF8PROC_LIB utf8proc REQUIRED)
target_include_directories(ft_utf8proc SYSTEM INTERFACE ${FT_UTF8PROC_INCLUDE})
target_link_libraries(ft_utf8proc INTERFACE ${FT_UTF8PROC_LIB})

# Arrow: shared libraries with their version in the file name (libarrow.so.2600).
file(GLOB FT_ARROW_LIB ${FT_DEPS}/pyarrow/libarrow.so*)
file(GLOB FT_PARQUET_LIB ${FT_DEPS}/pyarrow/libparquet.so*)
if(NOT FT_ARROW_LIB OR NOT FT_PARQUET_LIB)
  message(FATAL_ERROR "Arrow is not in ${FT_DEPS}/pyarrow: run scripts/setup.sh")
endif()
add_library(ft_arrow INTERFACE)
target_include_directories(ft_arrow SYSTEM INTERFACE ${FT_DEPS}/pyarrow/include)
target_link_libraries(ft_arrow INTERFACE ${FT_PARQUET_LIB} ${FT_ARROW_LIB})

# The sentencepiece library, built by scripts/setup.sh from third_party/sentencepiece.
if(NOT EXISTS ${FT_DEPS}/sentencepiece/lib/libsentencepiece.a)
  message(FATAL_ERROR "The sentencepiece library is not in ${FT_DEPS}/sentencepiece: run scripts/setup.sh")
endif()
add_library(ft_sentencepiece STATIC IMPORTED)
set_target_properties(ft_sentencepiece PROPERTIES IMPORTED_LOCATION ${FT_DEPS}/sentencepiece/lib/libsentencepiece.a)
target_include_directories(ft_sentencepiece SYSTEM INTERFACE ${FT_DEPS}/sentencepiece/include)
target_link_options(ft_sentencepiece INTERFACE -Wl,--exclude-libs,libsentencepiece.a)

# LibTorch: headers and libtorch_cpu. CUDA is loaded at run time where a driver is present (src/kernels/device.cpp), so that
# the program starts fast and small without one.
if(NOT FT_LIBTORCH AND EXISTS ${FT_DEPS}/libtorch_path)
  file(STRINGS ${FT_DEPS}/libtorch_path FT_LIBTORCH LIMIT_COUNT 1)
endif()
foreach(needed include/ATen/core/Tensor.h lib/libtorch_cpu.so lib/libc10.so)
  if(NOT EXISTS ${FT_LIBTORCH}/${needed})
    message(FATAL_ERROR "LibTorch not found (${FT_LIBTORCH}/${needed}): run scripts/setup.sh")
  endif()
endforeach()
add_library(ft_torch INTERFACE)
target_include_directories(ft_torch SYSTEM INTERFACE ${FT_LIBTORCH}/include ${FT_LIBTORCH}/include/torch/csrc/api/include)
target_compile_definitions(ft_torch INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_libraries(ft_torch INTERFACE ${FT_LIBTORCH}/lib/libtorch_cpu.so ${FT_LIBTORCH}/lib/libc10.so ${CMAKE_DL_LIBS})
# The libraries behind libtorch_cpu are found by its own run path; the linker need not look for them.
target_link_options(ft_torch INTERFACE -Wl,--allow-shlib-undefined)

# CUDA: our kernels are compiled where nvcc and libtorch_cuda are; sets FT_HAS_CUDA. Linked is the runtime alone, shared
# (LibTorch needs the same libcudart.so.13): a second, static one would have its own idea of the device.
set(FT_HAS_CUDA OFF)
if(FT_CUDA)
  find_program(FT_NVCC nvcc PATHS /usr/local/cuda/bin)
  set(nvcc_status 1)
  if(FT_NVCC)
    execute_process(COMMAND ${FT_NVCC} --version RESULT_VARIABLE nvcc_status OUTPUT_QUIET ERROR_QUIET)
  endif()
endif()
if(NOT FT_CUDA)
  message(STATUS "CUDA kernels: no (FT_CUDA is off)")
elseif(NOT nvcc_status EQUAL 0)
  message(STATUS "CUDA kernels: no (no nvcc that runs in PATH or /usr/local/cuda/bin)")
elseif(NOT EXISTS ${FT_LIBTORCH}/lib/libtorch_cuda.so)
  message(STATUS "CUDA kernels: no (${FT_LIBTORCH}/lib has no libtorch_cuda.so)")
else()
  set(FT_HAS_CUDA ON)
  set(CMAKE_CUDA_COMPILER ${FT_NVCC})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  # Ampere, Ada, Hopper; the last one also as PTX, for what comes after.
  set(CMAKE_CUDA_ARCHITECTURES "80-real;86-real;89-real;90")
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 does not know that nvcc takes it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  # libcudart of the wheels, before the toolkit's; where LibTorch came as an archive it lies in its own lib/.
  list(APPEND CMAKE_BUILD_RPATH ${FT_DEPS}/nvidia/cu13/lib ${FT_LIBTORCH}/lib)
  message(STATUS "CUDA kernels: yes (${FT_NVCC}, nvcc ${CMAKE_CUDA_COMPILER_VERSION}, sm ${CMAKE_CUDA_ARCHITECTURES})")
endif()
