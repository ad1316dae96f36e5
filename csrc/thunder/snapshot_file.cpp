#include "thunder/snapshot_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace xfast::thunder {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

class File {
 public:
  File(const std::string& path, int flags) : descriptor_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) fail(path);
  }
  ~File() { close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }

 private:
  int descriptor_;
};

}  // namespace

void write_atomically(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".part-" + std::to_string(getpid());
  try {
    const File file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    for (std::size_t done = 0; done < content.size();) {
      const ssize_t wrote = write(file.get(), content.data() + done, content.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) fail(temporary);
      done += static_cast<std::size_t>(wrote);
    }
    if (fsync(file.get()) != 0) fail(temporary);
    if (rename(temporary.c_str(), path.c_str()) != 0) fail(path);
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const File directory(folder, O_RDONLY | O_DIRECTORY);
  if (fsync(directory.get()) != 0) fail(folder);
}

std::string read_whole(const std::string& path) {
  const File file(path, O_RDONLY);
  struct stat status{};
  if (fstat(file.get(), &status) != 0) fail(path);
  std::string content(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t got = read(file.get(), content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path);
    if (got == 0) {
      content.resize(done);  // shrank under our hands: the checksum will say so
      break;
    }
    done += static_cast<std::size_t>(got);
  }
  return content;
}

}  // namespace xfast::thunder
