// Linked into the static binary, see tools/build-static. Where nsswitch.conf names a module such as "resolve" or
// "systemd", glibc would load that module of the machine, with that machine's own glibc, into the static program, which
// ends it with a signal wherever the two versions differ. So names are looked up by what is built in, and nothing else.
#include <nss.h>

__attribute__((constructor)) static void look_names_up_by_what_is_built_in(void) {
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
}
