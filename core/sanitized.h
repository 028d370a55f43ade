/* Whether this is a build under a sanitizer: slower by a factor, and hungry for addresses. */
#ifndef CADVLM_CORE_SANITIZED_H
#define CADVLM_CORE_SANITIZED_H

#ifndef __has_feature /* gcc says it with a macro, clang with a feature */
#define __has_feature(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#endif
