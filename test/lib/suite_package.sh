# shellcheck shell=bash
# The suite package of test/run: Debian's packages, built from a source package
# as a packager would, each in a root of the release (roots.sh), installed and
# purged there beside a server; and the archive for PGXN, installed from again.

# shellcheck disable=SC2034
PACKAGE_PACKAGES="$ROOT_PACKAGES git unzip"
# shellcheck disable=SC2034
PACKAGE_COUNTED="package checks"

# The release that the next suite makes a root of too; with --matrix the older one.
PACKAGE_RELEASES="trixie"
PACKAGE_RELEASES_MATRIX="bookworm trixie"

suite_package() {
    local release
    REPOSITORY=$WORK/repository
    step "Putting the tree into a git repository of its own" "$WORK/log/repository.log" make_repository || {
        fail package "the sources cannot be committed" "$WORK/log/repository.log"
        return 0
    }
    pgxn_archive
    for release in $(package_releases); do debian_package "$release"; done
}

package_releases() { if [ -n "$MATRIX" ]; then echo "$PACKAGE_RELEASES_MATRIX"; else echo "$PACKAGE_RELEASES"; fi; }

left_out_package() {
    [ -n "$MATRIX" ] || echo "Debian's package for PostgreSQL 15 on bookworm (--matrix)"
}

# Archives are made of what is committed: the tree as it is, committed here.
make_repository() {
    as_server mkdir "$REPOSITORY" && copy_sources "$REPOSITORY" && cd "$REPOSITORY" &&
        as_server git init -q . && as_server git add -A &&
        as_server git -c user.name=test -c user.email=test@localhost commit -q -m "The tree as it is"
}

# ---- PGXN -------------------------------------------------------------------
pgxn_archive() {
    local name zip
    name=emag_sync_guard-$(extension_version)
    zip=$WORK/$name.zip
    check package "dist/pgxn makes $name.zip" as_server "$REPOSITORY/dist/pgxn" "$WORK"
    check package "META.json is as PGXN's specification wants it" as_server perl "$SOURCE/test/package/meta.pl" "$REPOSITORY/META.json"
    check package "the archive is one folder of the tree's files, without those of the repository" pgxn_contents "$zip" "$name"
    check package "the archive has what META.json names" pgxn_named "$zip" "$name"
    as_server unzip -q "$zip" -d "$WORK/pgxn" || true
    BUILD_FOLDER=$WORK/pgxn/$name
    # In place of what the other suites work with.
    forget_installed
    step_hint() { build_hint; }
    if step "Installing from the archive for PGXN" "$WORK/log/pgxn.log" build_and_install "$BUILD_FOLDER" with_llvm=no; then
        pass package "make and make install work from the archive"
        check package "the install script in the archive is the one that make makes" pgxn_script "$BUILD_FOLDER" "$zip" "$name"
        check package "CREATE EXTENSION works from there" pgxn_works
    else
        fail package "make and make install work from the archive" "$WORK/log/pgxn.log"
    fi
    step_hint() { :; }
}

# pgxn_contents ZIP NAME
pgxn_contents() {
    local script
    script=sql/emag_sync_guard--$(extension_version).sql
    diff <({ cd "$REPOSITORY" && as_server git ls-files | grep -vE '^(\.ci/|\.git)'; echo "$script"; } | sort -u) \
        <(unzip -Z1 "$1" | grep -v '/$' | sed "s|^$2/||" | sort)
}

pgxn_named() {
    local file
    for file in $(perl -MJSON::PP -0777 -ne '$p = decode_json($_)->{provides}; print map { "$_->{file}\n$_->{docfile}\n" } values %$p' "$REPOSITORY/META.json"); do
        unzip -Z1 "$1" "$2/$file" || return
    done
}

pgxn_script() { diff <(cat "$1"/sql/parts/*.sql) <(unzip -p "$2" "$3/sql/emag_sync_guard--$(extension_version).sql"); }

forget_installed() {
    rm -f "$("$PG_CONFIG" --pkglibdir)/emag_sync_guard.so" "$("$PG_CONFIG" --sharedir)"/extension/emag_sync_guard*
}

# debian/tests/smoke.sql has a table guarded and a dead run reaped.
pgxn_works() {
    make_cluster pgxn && as_server "$BIN/psql" -X -h "$(cluster_folder pgxn)" -U postgres -f "$BUILD_FOLDER/debian/tests/smoke.sql" &&
        as_server "$BIN/pg_ctl" -D "$(cluster_folder pgxn)/data" -w -m immediate stop
}

# ---- Debian -----------------------------------------------------------------
# What a packager has (the source names only the first two itself), and a server.
BUILDER_PACKAGES="debhelper postgresql-server-dev-all build-essential lintian"

# debian_package RELEASE
debian_package() {
    local release=$1 major package
    major=$(root_pg_major "$release")
    package="PostgreSQL $major on $release"
    # shellcheck disable=SC2086
    make_root "$release" $BUILDER_PACKAGES "postgresql-$major" procps || {
        skipped package "$package: $ROOT_REASON"
        return 0
    }
    check package "$package: dist/debian makes the source" source_into_root "$release"
    if step "Building the package for $package" "$WORK/log/package_$major.log" build_package "$release"; then
        pass package "$package: dpkg-buildpackage makes the packages"
    else
        tail -n 60 "$WORK/log/package_$major.log" >"$WORK/log/package_tail.log"
        fail package "$package: dpkg-buildpackage makes the packages" "$WORK/log/package_tail.log"
        return 0
    fi
    check package "$package: lintian finds no error and no warning" lint_package "$release"
    installed_package "$release" "$major" "$package"
}

PACKAGE_FOLDER=/srv/package
package_tree() { echo "$PACKAGE_FOLDER/emag-sync-guard-$(extension_version)"; }

source_into_root() {
    local folder
    folder=$WORK/debian_$1
    as_server mkdir "$folder" && as_server "$REPOSITORY/dist/debian" "$folder" || return
    as_root mkdir -p "$(root_folder "$1")$PACKAGE_FOLDER" &&
        as_root cp -R "$folder/." "$(root_folder "$1")$PACKAGE_FOLDER/" &&
        in_root "$1" chown -R nobody "$PACKAGE_FOLDER"
}

# As a user without rights, as the source says that it can (Rules-Requires-Root: no).
build_package() {
    in_root "$1" setpriv --reuid=nobody --clear-groups env HOME=/nonexistent DEB_BUILD_OPTIONS="parallel=$JOBS" \
        sh -c 'cd "$0" && pg_buildext updatecontrol && dpkg-buildpackage -us -uc' "$(package_tree)"
}

# initial-upload-closes-no-bugs: this is no upload to Debian, so nobody has filed a bug that asks for the package.
lint_package() {
    in_root "$1" setpriv --reuid=nobody --clear-groups env HOME=/nonexistent \
        sh -c 'cd "$0" && exec lintian -i --allow-root --suppress-tags initial-upload-closes-no-bugs --fail-on error,warning ./*.changes' "$PACKAGE_FOLDER"
}

# installed_package RELEASE MAJOR TITLE: test/package/in_root, each of whose lines is one check.
installed_package() {
    local log=$WORK/log/installed_$2.log status=0
    step "Installing, upgrading and purging the package for $3" "$log" in_root "$1" "$(package_tree)/test/package/in_root" \
        "$2" "$PACKAGE_FOLDER" "$(package_tree)" || status=$?
    count_lines package "$3: " "$log"
    if [ "$status" != 0 ] || [ "$LINES_BAD" != 0 ]; then head -n 200 "$log" | indent; fi
    grep -q '^ok nothing of it is left at the end' "$log" || fail package "$3: the checks did not come to their end (status $status)"
}
