#!/usr/bin/env bash
# Download Slicer and unpack it into the folder `slicer` of the current folder. Prints, as lines for $GITHUB_OUTPUT,
# where the application and its Python are.
#
#   install_slicer.sh linux|win|macosx release|nightly
set -euo pipefail

os=$1
stability=$2
folder=$PWD/slicer
package=$PWD/slicer-package
mkdir -p "$folder"
curl --fail --location --silent --show-error --retry 3 --output "$package" \
  "https://download.slicer.org/download?os=$os&stability=$stability"

case $os in
  linux)
    tar -xzf "$package" -C "$folder" --strip-components=1
    application=$folder/Slicer
    python=$folder/bin/PythonSlicer
    ;;
  win)
    mv "$package" "$package.exe"
    # The installer takes its folder as the last argument, unquoted and with backslashes.
    MSYS_NO_PATHCONV=1 "$package.exe" /S "/D=$(cygpath -w "$folder")" >&2
    application=$folder/Slicer.exe
    python=$folder/bin/PythonSlicer.exe
    ;;
  macosx)
    mv "$package" "$package.dmg"
    mount=$PWD/slicer-mount
    # Answers the licence, where the image asks for it.
    PAGER="cat" hdiutil attach -nobrowse -readonly -mountpoint "$mount" "$package.dmg" < <(yes) >&2
    cp -R "$mount"/Slicer*.app "$folder/Slicer.app"
    hdiutil detach "$mount" >&2
    application=$folder/Slicer.app/Contents/MacOS/Slicer
    python=$folder/Slicer.app/Contents/bin/PythonSlicer
    ;;
  *)
    echo "Unknown system '$os'; use linux, win or macosx." >&2
    exit 2
    ;;
esac

for file in "$application" "$python"; do
  [ -e "$file" ] || { echo "Slicer was unpacked, but there is no $file." >&2; exit 1; }
done
echo "application=$application"
echo "python=$python"
