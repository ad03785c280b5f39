# Included twice at the end of an extension's CMakeLists.txt: for its package configuration and for its packaging.
get_cmake_property(names VARIABLES)
list(FILTER names INCLUDE REGEX "^EXTENSION_")
list(SORT names)
set(lines "project ${PROJECT_NAME}\n")
foreach(name IN LISTS names)
  string(APPEND lines "${name} ${${name}}\n")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/extension.txt "${lines}")
